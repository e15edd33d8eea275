"""``pretrain``: an encoder learns from slices without labels and their metadata."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from pydantic import field_validator
from safetensors.torch import save
from torch import Tensor

from fewlabel.core.artifact.files import write_bytes, write_json
from fewlabel.core.artifact.manifest import Origin, open_artifact
from fewlabel.core.artifact.unchanged import check_origin
from fewlabel.core.collective import gather, mean_across, rank
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.registry import load_plugin
from fewlabel.core.rng import numpy_stream, stream_seed
from fewlabel.core.settings.config import Names, PathSetting, Settings, plugin_field, setting
from fewlabel.data.augment import AugmentConfig, pretraining_augmentation
from fewlabel.data.loading import PretrainLoader
from fewlabel.data.sampling import SamplerConfig
from fewlabel.data.store import PreparedStore
from fewlabel.engine.checkpoint import Checkpointer
from fewlabel.engine.compiling import Compile, compile_blocks, plain_seconds, plainly, settle
from fewlabel.engine.embedding import embed_slices
from fewlabel.engine.lock import sole_run
from fewlabel.engine.loop import Loop, StepResult
from fewlabel.engine.monitor import CollapseWatch, effective_rank, spread
from fewlabel.engine.optim import OptimiserConfig, build_optimiser, check_warmup
from fewlabel.engine.record import Record
from fewlabel.engine.runs import begun_compiled, check_begun, close_run, finished_before, identity, mark_run
from fewlabel.engine.runtime import Device, Precision, fast_kernels, resolved_precision, start
from fewlabel.engine.step import gradients_of
from fewlabel.engine.weights import load_encoder_into, save_encoder
from fewlabel.gradients.combine import Combiner
from fewlabel.methods.base import DataFacts, PretrainMethod
from fewlabel.nets.layout import channels_last
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.protocol.exposure import KEY, images_met
from fewlabel.protocol.label_draws import draw_faults, drawn_labels, labels_of_encoder, training_slices
from fewlabel.stages._volumes import check_slices, say_depth

#: Slices whose embeddings are left beside the encoder, at most.
EMBEDDED = 2000


class SliceNetworkConfig(UNetConfig):
    """Architecture of a network of slices."""

    @field_validator("ndim")
    @classmethod
    def _of_slices(cls, value: int) -> int:
        if value != 2:
            raise ValueError(
                "pre-training works on slices, so its network is 2D; volumes are learnt from scratch by finetune with "
                "patch=[DEPTH,HEIGHT,WIDTH]"
            )
        return value


class PretrainSettings(Settings):
    """Settings of ``fewlabel pretrain``."""

    data: PathSetting = setting(..., "prepared folder")
    out: PathSetting = setting(..., "folder of the encoder to make")
    method: plugin_field("fewlabel.methods") = setting("gcl", "pre-training method and its settings")  # type: ignore[valid-type]
    encoder: PathSetting | None = setting(None, "encoder folder to start from; null for random weights")
    labelled: int | None = setting(
        None, "M, labelled patients for methods that learn from labels; null for all", unit="patients", ge=1
    )
    draw: int = setting(0, "which draw of M labelled patients; draws belong to the split", ge=0)
    subjects: Names | None = setting(None, "the labelled patients by id, instead of a draw")
    parts: Names = setting(("pretrain",), "parts of the split whose images are learnt from; never test")
    network: SliceNetworkConfig = setting(SliceNetworkConfig(), "architecture")
    augment: AugmentConfig = setting(
        pretraining_augmentation(), "augmentation of each view; rotation does without vertical flips"
    )
    sampler: SamplerConfig = setting(SamplerConfig(), "how batches are drawn")
    optimiser: OptimiserConfig = setting(OptimiserConfig(), "optimiser and its rate")
    steps: int = setting(3000, "length of the run", unit="optimisation steps", ge=1)
    batch: int = setting(
        32, "slices in a joined batch, two views each", ge=2, source="code of PCL, whose protocol GCL follows"
    )
    seed: int = setting(0, "seed of weights, batches and augmentation", ge=0)
    device: Device = setting("auto", "where to train")
    precision: Precision = setting("auto", "bf16 where the hardware has it; losses are float32 always")
    checkpoint_seconds: float = setting(300.0, "time between checkpoints", unit="s", ge=0)
    resume: bool = setting(False, "continue an unfinished run, keep a finished one")
    compile: Compile = setting(
        "auto",
        "compile training steps, which takes a minute or two; auto: on a CPU with AMX or a GPU, where a compiler works "
        "and the run takes a quarter of an hour or more; a resumed run does as it began",
        source="own choice",
    )
    collapse_patience: int = setting(200, "collapsed steps in a row after which the run stops; 0 never", ge=0)
    log_every: int = setting(10, "steps between two rows of metrics.jsonl", ge=1)

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str = "", base: Settings | None = None) -> Self:
        """As for all settings, and a draw must have its number of patients."""
        built = super().parse(values, where=where, base=base)
        faults = draw_faults(built.labelled, built.draw, built.subjects, where)
        if faults:
            raise SettingsError("These settings are not valid:", faults)
        return built

    @field_validator("network", mode="before")
    @classmethod
    def _any_network(cls, value: Any) -> Any:
        return SliceNetworkConfig.parse(dict(value), where="network.") if type(value) is UNetConfig else value


SETTINGS = PretrainSettings


def run(settings: PretrainSettings) -> Path:
    """Pre-train an encoder and leave it as an artifact of kind ``encoder``.

    Raises:
        SettingsError: If settings do not fit the data, or ``out`` holds another run.
        ArtifactError: If ``data`` is not a prepared folder.
        DivergedError: If a number is not finite, or embeddings stay collapsed.
        RunStoppedError: After Ctrl-C, once the state is saved.
    """
    started = time.monotonic()
    store = PreparedStore(settings.data)
    origins = {"data": store.origin}
    if settings.encoder is not None:
        origins["encoder"] = Origin.of(settings.encoder, open_artifact(settings.encoder, "encoder"))
    hashes = {f"{role}_hash": origin.content_hash for role, origin in origins.items()}
    asked = settings.network
    # What is recorded is what is built.
    settings = settings.model_copy(update={"network": network_for(settings, store)})
    say_depth(asked, settings.network, store.images.shape[2:])
    same = identity(_deciding(settings), **hashes)
    if finished_before(settings.out, "encoder", same, resume=settings.resume):
        say(f"{settings.out} is finished and kept.")
        return settings.out
    training = Pretraining.begin(settings, same, store)
    for origin in origins.values():
        check_origin(origin)
    with sole_run(settings.out, lambda: check_begun(settings.out, "encoder", same, resume=settings.resume)):
        training.settle()
        mark_run(settings.out, same, compiled=training.compiled)
        training.train()
        files = training.leave()
        close_run(
            settings.out,
            "encoder",
            files,
            parents=list(origins.values()),
            settings=settings.record(),
            same=same,
            seed=settings.seed,
            device=str(training.fabric.device),
            precision=resolved_precision(settings.precision, training.fabric.device.type),
            started=started,
            compiled=training.compiled,
        )
        training.checkpointer.remove()
    return settings.out


def _deciding(settings: PretrainSettings) -> dict[str, Any]:
    """The settings that change the result: for a method without labels, not which labels there would be."""
    record = settings.record()
    if load_plugin("fewlabel.methods", settings.method.name).uses_labels:
        return record
    return {key: value for key, value in record.items() if key not in {"labelled", "draw", "subjects"}}


def network_for(settings: PretrainSettings, store: PreparedStore) -> UNetConfig:
    """The network as it is built, with the channels of the data and, where none is asked for, a depth that fits.

    Raises:
        SettingsError: If the settings name another number of channels.
    """
    asked, channels = settings.network, int(store.images.shape[1])
    if "in_channels" in asked.model_fields_set and asked.in_channels != channels:
        rule = f"the network takes the channels of the data, and {settings.data} has {channels}"
        fault = Fault.of(rule, str(asked.in_channels), "network.in_channels", "leave out network.in_channels")
        raise SettingsError("These settings are not valid:", [fault])
    return asked.fitted(store.images.shape[2:]).model_copy(update={"in_channels": channels})


def build_method(
    settings: PretrainSettings, store: PreparedStore, indices: NDArray[np.int64], device: torch.device
) -> PretrainMethod:
    """The method with a freshly initialised encoder; equal seeds give equal encoders for all methods."""
    network = network_for(settings, store)
    facts = DataFacts(
        meta_labels={name: store.classes_among(name, indices) for name in store.meta_labels},
        slices=len(indices),
        image_size=(int(store.images.shape[2]), int(store.images.shape[3])),
        store_slices=len(store.slices),
        classes=len(store.label_names),
    )
    torch.manual_seed(stream_seed(settings.seed, "encoder"))
    encoder = UNetEncoder(network)
    if settings.encoder is not None:
        load_encoder_into(settings.encoder, encoder)
    torch.manual_seed(stream_seed(settings.seed, "heads"))
    method: PretrainMethod = load_plugin("fewlabel.methods", settings.method.name)(settings.method, encoder, facts)
    channels_last(method.to(device))
    return method


class Pretraining:
    """One pre-training run: the method, its batches and its optimiser, wired to the loop.

    Args:
        settings: Settings of the stage.
        fabric: Device and precision.
        store: The prepared data.
        same: Identity of the run, for resuming.
    """

    def __init__(
        self, settings: PretrainSettings, fabric: Fabric, store: PreparedStore, same: Mapping[str, Any]
    ) -> None:
        self.settings = settings
        self.fabric = fabric
        self.store = store
        check_slices(store.images.shape[2:], settings.network, str(settings.data))
        self.indices = training_slices(store, settings.parts)
        self.method = build_method(settings, store, self.indices, fabric.device)
        check_warmup(settings.optimiser, self.method.training_phase, settings.steps)
        self.draw = self._labels() if self.method.uses_labels else None
        before = labels_of_encoder(
            settings.encoder,
            self.draw,
            rule="An encoder to start from may have seen labels of this draw only",
            remedy="Start from another encoder",
        )
        self.seen = self.draw or before
        self.met = images_met(store.slices["subject"].iloc[self.indices], settings.encoder)
        self.loader = PretrainLoader(
            store,
            self.indices,
            sampler=settings.sampler.settled(metadata=bool(self.method.needs_metadata or self.method.uses_metadata)),
            augment=settings.augment.model_copy(update=dict(self.method.augment_changes)),
            batch=settings.batch,
            total_steps=settings.steps,
            seed=settings.seed,
            device=fabric.device,
            labelled=None if self.draw is None else store.slices_of(self.draw, labelled=True),
        )
        self.combiner: Combiner = self.method.combiner()
        named = [(name, tensor) for name, tensor in self.method.named_parameters() if tensor.requires_grad]
        self.optimiser = build_optimiser(settings.optimiser, [tensor for _, tensor in named])
        names = {tensor: name for name, tensor in named}
        # The loop and the combiner see parameters in the optimiser's order.
        self.parameters = [tensor for group in self.optimiser.param_groups for tensor in group["params"]]
        self.names = [names[tensor] for tensor in self.parameters]
        self.watch = CollapseWatch(settings.collapse_patience)
        self.facts: dict[str, Any] = {}
        #: Whether steps are compiled, once :meth:`settle` knows it.
        self.compiled = False
        self.checkpointer = Checkpointer(
            settings.out, same, self.method, self.optimiser, self.combiner, settings.checkpoint_seconds
        )

    def _labels(self) -> tuple[str, ...]:
        """The subjects whose labels a method may learn from: those of the draw, whatever else has labels."""
        chosen = self.settings
        draw = drawn_labels(self.store, chosen.labelled, chosen.draw, chosen.subjects)
        if len(self.store.slices_of(draw.labelled, labelled=True)) == 0:
            found = ", ".join(draw.labelled)
            fault = Fault.of(f"{chosen.method.name} learns from labels", f"none for {found}", "labelled", "name others")
            raise DataError("There is nothing to train on:", [fault])
        return draw.labelled

    @classmethod
    def begin(
        cls, settings: PretrainSettings, same: Mapping[str, Any] | None = None, store: PreparedStore | None = None
    ) -> Pretraining:
        """Open the device and, unless they are open, the data, and build the method."""
        fabric = start(settings.device, settings.precision)
        fast_kernels(fabric.device.type)
        return cls(settings, fabric, store or PreparedStore(settings.data), same or {})

    def settle(self, steps: int | None = None) -> None:
        """Compile the steps, if they are to be; before the first of them.

        Args:
            steps: Length of the run, where it is not that of the settings.

        Raises:
            SettingsError: If they are to be and there is no working compiler.
        """
        settings, kind, size = self.settings, self.fabric.device.type, self.method.facts.image_size
        self.compiled = settle(
            settings.compile,
            begun_compiled(settings.out) if settings.resume else None,
            kind=kind,
            precision=settings.precision,
            seconds=lambda: (
                (steps or settings.steps) * plain_seconds(settings.network, None, size, 2 * settings.batch, kind)
            ),
        )
        if self.compiled:
            compile_blocks(self.method)

    def train(self) -> None:
        """Run all steps that are left."""
        first, facts = self.checkpointer.load() if self.settings.resume else (0, {})
        self.facts.update(facts)
        self.watch.streak = int(self.facts.get("collapsed_steps", 0))
        self.method.train()
        self.loop(first).run(self.step, first)

    def loop(self, first: int, stop: int | None = None) -> Loop:
        """The loop over the steps from ``first`` to the end, or to ``stop`` of the same schedule."""
        return Loop(
            title=f"pretrain {self.settings.method.name}",
            module=self.method,
            optimiser=self.optimiser,
            config=self.settings.optimiser,
            total_steps=self.settings.steps,
            stop=stop,
            seed=self.settings.seed,
            checkpointer=self.checkpointer,
            record=Record(self.settings.out, first),
            log_every=self.settings.log_every,
            schedule=lambda step: self.method.training_phase(step, self.settings.steps),
            after_step=lambda step: self.method.after_step(step, self.settings.steps),
            facts=self.facts,
        )

    def step(self, step: int) -> StepResult:
        """Batch, forward pass, gradients per term, combination, collapse watch."""
        plan = self.method.plan(step, self.settings.steps)
        batch = self.loader.batch(step, labelled=plan.labelled, same_geometry=plan.same_geometry, slices=plan.slices)
        with self.fabric.autocast():
            losses = self.method.losses(batch)
        loss = torch.stack([term.detach().float() for term in losses.terms.values()]).mean()
        gradients = gradients_of(losses.terms, self.names, self.parameters, self.combiner, batch.generator)
        embeddings = gather(losses.embeddings.detach())
        width = spread(embeddings)
        self.watch.update(width, step, float(loss), losses.collapsed)
        self.facts["collapsed_steps"] = self.watch.streak

        def values() -> dict[str, Any]:
            bounds = {"collapsed": losses.collapsed, "lower_bound": losses.lower_bound}
            terms = {f"term/{name}": float(term.detach()) for name, term in losses.terms.items()}
            known = {name: value for name, value in bounds.items() if value is not None}
            return {
                **bounds,
                "spread": width,
                "effective_rank": effective_rank(embeddings),
                "embedding_std": float(embeddings.float().std(dim=0).mean()),
                **mean_across({**known, **terms, **losses.scalars}),
                **self.combiner.scalars(),
            }

        return StepResult(loss, gradients, batch.slices, values)

    def embeddings(self, slices: NDArray[np.int64]) -> Tensor:
        """(n, dim) of slices of the store, by a method in eval mode."""
        with plainly(self.compiled):
            return embed_slices(self.method.embed, self.store.images, slices, self.fabric.device)

    def leave(self) -> list[str]:
        """Write the files of the artifact, but its manifest, on rank 0; their names."""
        settings, method = self.settings, self.method
        decoder = method.pretrained_decoder()
        files = ["encoder.safetensors", "encoder.json", "embeddings.safetensors", "details.json", "metrics.jsonl"]
        if decoder is not None:
            files.append("decoder.safetensors")
        if rank() != 0:
            return files
        facts = {
            "method": settings.method.name,
            "meta_labels": list(method.uses_metadata),
            "channels": self.store.plan["channels"],
            "spacing": self.store.plan["spacing"],
            "image_size": list(method.facts.image_size),
            "steps": settings.steps,
            "parameters": sum(parameter.numel() for parameter in method.encoder.parameters()),
            "labelled_subjects": list(self.seen),
            KEY: self.met,
        }
        save_encoder(settings.out, method.encoder, facts, decoder)
        write_json(settings.out / "details.json", self.combiner.details())
        method.eval()
        chosen = np.sort(numpy_stream(settings.seed, "embed").permutation(self.indices)[:EMBEDDED])
        embeddings = self.embeddings(chosen)
        tensors = {"embeddings": embeddings, "slices": torch.from_numpy(chosen)}
        write_bytes(settings.out / "embeddings.safetensors", save(tensors))
        return files
