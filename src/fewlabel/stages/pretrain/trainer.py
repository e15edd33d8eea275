"""Trains an encoder: a method on slices without labels and their metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.collective import gather, mean_across
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.rng import stream_seed
from fewlabel.data.batch import PretrainBatch
from fewlabel.data.batch_loading import PretrainLoader
from fewlabel.data.evenly_spread_slices import Spread
from fewlabel.data.store import PreparedStore
from fewlabel.engine.collapse_monitor import CollapseWatch, effective_rank, spread
from fewlabel.engine.compiling import plain_seconds, plainly
from fewlabel.engine.embedding import embed_slices
from fewlabel.engine.recalibrate import recalibrate
from fewlabel.engine.runtime import fast_kernels, start
from fewlabel.engine.trainer import Trainer, compiles
from fewlabel.engine.weight_files import load_encoder_into
from fewlabel.methods.base import Losses, PretrainMethod
from fewlabel.nets.memory_layout import channels_last
from fewlabel.nets.unet import UNetEncoder
from fewlabel.protocol.exposure import images_met
from fewlabel.protocol.training_eligibility import labels_of_encoder, training_slices
from fewlabel.stages._batch_norm_statistics import SLICES_AT_ONCE, representative
from fewlabel.stages.pretrain.checking import check, data_facts
from fewlabel.stages.pretrain.settings import PretrainSettings

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class PretrainingTrainer(Trainer[PretrainMethod]):
    """Trains one encoder.

    Args:
        settings: Settings of the stage.
        fabric: Device and precision.
        store: The prepared data.
        same: Identity of the run, for resuming.
        encoder: What the encoder starts from; None for random weights.
    """

    def __init__(
        self,
        settings: PretrainSettings,
        fabric: Fabric,
        store: PreparedStore,
        same: Mapping[str, Any],
        encoder: Artifact | None = None,
    ) -> None:
        self.settings: PretrainSettings
        self.store = store
        planned = check(settings, store)
        settings = settings.model_copy(update={"network": planned.network})
        self.indices = training_slices(store, settings.parts)
        method = build_method(settings, store, self.indices, fabric.device, encoder)
        super().__init__(
            method,
            settings,
            fabric,
            settings.out,
            same,
            title=f"pretrain {settings.method.name}",
            combiner=method.combiner(),
        )
        self.draw = planned.subjects if method.uses_labels else None
        before = labels_of_encoder(
            encoder,
            self.draw,
            rule="An encoder to start from may have seen labels of this draw only",
            remedy="Start from another encoder",
        )
        self.label_subjects = self.draw or before
        self.met = images_met(store.slices["subject"].iloc[self.indices], encoder)
        self.loader = PretrainLoader(
            store,
            self.indices,
            sampler=settings.sampler.settled(metadata=bool(method.needs_metadata or method.uses_metadata)),
            augment=settings.augment.model_copy(update=dict(method.augment_changes)),
            batch=settings.batch,
            total_steps=settings.steps,
            seed=settings.seed,
            device=fabric.device,
            labelled=None if self.draw is None else store.slices_of(self.draw, labelled=True),
            shuffled=settings.shuffled_metadata,
        )
        self.watch = CollapseWatch(settings.collapse_patience)
        self.facts = {"collapsed_steps": 0}

    @classmethod
    def begin(
        cls,
        settings: PretrainSettings,
        same: Mapping[str, Any] | None = None,
        store: PreparedStore | None = None,
        encoder: Artifact | None = None,
    ) -> PretrainingTrainer:
        """Open the device and, unless they are open, the data and the encoder to start from, and build the method."""
        if encoder is None and settings.encoder is not None:
            encoder = Artifact.open(settings.encoder, "encoder")
        fabric = start(settings.device, settings.precision, settings.threads)
        fast_kernels(fabric.device.type)
        return cls(settings, fabric, store or PreparedStore(settings.data), same or {}, encoder)

    def settle(self, steps: int | None = None) -> None:
        """Compile the steps, if they are to be; before the first of them.

        Args:
            steps: Length of the run, where it is not that of the settings.

        Raises:
            SettingsError: If they are to be and there is no working compiler.
        """
        settings, kind, size = self.settings, self.fabric.device.type, self.model.facts.image_size

        def seconds() -> float:
            rows = 2 * settings.batch
            return (steps or settings.steps) * plain_seconds(settings.network, None, size, rows, kind)

        if compiles(settings, self.folder, kind, seconds):
            self.compile()

    def batch(self, step: int) -> PretrainBatch:
        """Two views of each slice."""
        plan = self.model.plan(step, self.settings.steps)
        return self.loader.batch(step, labelled=plan.labelled, same_geometry=plan.same_geometry, slices=plan.slices)

    def terms(self, losses: Losses) -> Mapping[str, Tensor]:
        """The method's terms, each of which the combiner sees."""
        return losses.terms

    def followed(self, step: int, losses: Losses, loss: Tensor) -> Callable[[], Mapping[str, Any]]:
        """Watch for collapse; the figures are those of embeddings, terms and combiner."""
        embeddings = gather(losses.embeddings.detach())
        width = spread(embeddings)
        # Of a run that is resumed, too.
        self.watch.streak = self.facts["collapsed_steps"]
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

        return values

    def take_statistics(self) -> Spread | None:
        """Give a method that hides parts of slices the statistics of whole ones, once it is trained.

        Returns:
            The slices; None where the method keeps the statistics of its training.
        """
        if not self.model.hides_pixels or self.model.encoder.config.norm != "batch":
            return None
        images = representative(self.store, self.indices, None, self.settings.seed)
        with plainly(self.compiled):
            recalibrate(self.model, images.batches(SLICES_AT_ONCE, self.fabric.device))
        return images

    def embeddings(self, slices: NDArray[np.int64]) -> Tensor:
        """(n, dim) of slices of the store, by a method in eval mode."""
        with plainly(self.compiled):
            return embed_slices(self.model.embed, self.store.images, slices, self.fabric.device)


def build_method(
    settings: PretrainSettings,
    store: PreparedStore,
    indices: NDArray[np.int64],
    device: torch.device,
    start_from: Artifact | None = None,
) -> PretrainMethod:
    """The method with a freshly initialised encoder; equal seeds give equal encoders for all methods."""
    facts = data_facts(store, indices)
    torch.manual_seed(stream_seed(settings.seed, "encoder"))
    encoder = UNetEncoder(settings.network)
    if start_from is not None:
        load_encoder_into(start_from, encoder)
    torch.manual_seed(stream_seed(settings.seed, "heads"))
    method: PretrainMethod = load_plugin("fewlabel.methods", settings.method.name)(settings.method, encoder, facts)
    channels_last(method.to(device))
    return method
