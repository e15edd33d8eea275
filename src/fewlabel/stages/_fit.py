"""One fit of a segmentation network: a regime on a fixed set of labelled slices, with or without validation."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from safetensors.torch import load_file, save
from torch import Tensor

from fewlabel.core.artifact.files import write_bytes
from fewlabel.core.atomic_files import sweep_partials
from fewlabel.core.collective import barrier, mean_across, rank
from fewlabel.core.progress import say
from fewlabel.core.registry import load_plugin
from fewlabel.core.rng import stream_seed
from fewlabel.core.settings.config import Settings
from fewlabel.data.augment import AugmentConfig
from fewlabel.data.loading import FinetuneLoader
from fewlabel.data.patches import PatchLoader
from fewlabel.data.spread import Spread
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore
from fewlabel.data.windows import Patch
from fewlabel.engine.checkpoint import CHECKPOINT, Checkpointer
from fewlabel.engine.compiling import compile_blocks, plainly
from fewlabel.engine.inference import WINDOW, predict_volume
from fewlabel.engine.loop import Loop, StepResult
from fewlabel.engine.optim import OptimiserConfig, build_optimiser, check_warmup
from fewlabel.engine.record import Record
from fewlabel.engine.step import gradients_of
from fewlabel.gradients.combine import MeanCombiner
from fewlabel.nets.layout import channels_last
from fewlabel.nets.unet import UNet, UNetEncoder
from fewlabel.regimes.base import Regime
from fewlabel.scoring.components import ComponentRule, clean
from fewlabel.scoring.metrics import dice_per_class
from fewlabel.stages._postprocess import prepared_voxel
from fewlabel.stages._statistics import take_statistics

BEST = "best.safetensors"
#: Folder of the masks of each validation, where they are kept.
MASKS = "masks"


@dataclass(frozen=True)
class Recipe:
    """What all fits of one fine-tuning share: regime, augmentation, optimiser and budget; slices without ``patch``."""

    regime: Settings
    augment: AugmentConfig
    optimiser: OptimiserConfig
    encoder_lr: float
    steps: int
    batch: int
    unlabelled_batch: int | None
    validate_every: int
    seed: int
    checkpoint_seconds: float
    log_every: int
    resume: bool
    frozen: bool
    pretrained: bool
    patch: Patch | None
    patch_foreground: float
    recalibrate_share: float
    view: tuple[int, int] | None = None
    compiled: bool = False


class Fit:
    """Trains one network in one folder.

    Args:
        recipe: Budget and settings.
        fabric: Device and precision.
        store: The prepared data.
        network: The network, on the device.
        indices: Store indices of the labelled slices.
        unlabelled: Store indices of slices without labels, for regimes that use them. If there are none, as where every
            patient is labelled, the labelled slices serve, masks unread.
        validation: Cases whose mean Dice is followed; may be empty.
        statistics: Images whose statistics of batch normalisation are mixed in when the network is validated and when
            it is given back; None for those of its training alone.
        rule: How predictions are cleaned before they are validated, or None.
        keep_best: Give back the weights of the best validation, not the last ones.
        folder: Where checkpoints and the record go.
        same: Identity of the run, for resuming.
        title: Shown beside the progress bar.
    """

    def __init__(
        self,
        recipe: Recipe,
        fabric: Fabric,
        store: PreparedStore,
        network: UNet,
        *,
        indices: NDArray[np.int64],
        unlabelled: NDArray[np.int64],
        validation: Sequence[PreparedCase],
        statistics: Spread | None,
        rule: ComponentRule | None,
        keep_best: bool,
        folder: Path,
        same: Mapping[str, Any],
        title: str,
    ) -> None:
        self.recipe = recipe
        self.fabric = fabric
        self.store = store
        self.validation = tuple(validation)
        self.statistics = statistics
        self.rule = rule
        self.keep_best = keep_best
        self.folder = folder
        self.title = title
        name = str(recipe.regime.name)  # type: ignore[attr-defined]
        regime_class = load_plugin("fewlabel.regimes", name)
        torch.manual_seed(stream_seed(recipe.seed, "regime"))
        self.regime: Regime = regime_class(recipe.regime, network, pretrained=recipe.pretrained).to(fabric.device)
        channels_last(self.regime)
        if recipe.compiled:
            compile_blocks(self.regime)
        check_warmup(recipe.optimiser, self.regime.training_phase, recipe.steps)
        encoders = self.regime.encoders()
        if recipe.frozen:
            for encoder in encoders:
                encoder.requires_grad_(requires_grad=False)
        if self.regime.uses_unlabelled and len(unlabelled) == 0:
            theirs = "takes those of the labelled patients, masks unread"
            say(f"No training scan is left without labels: {name} {theirs}.")
            unlabelled = indices
        self.loader = self._loader(indices, unlabelled if self.regime.uses_unlabelled else None)
        slower: dict[Tensor, float] = {
            tensor: recipe.encoder_lr for encoder in encoders for tensor in encoder.parameters()
        }
        undecayed = [tensor for module in self.regime.undecayed() for tensor in module.parameters()]
        self.optimiser = build_optimiser(recipe.optimiser, self.regime.parameters(), slower, undecayed)
        names = {tensor: name for name, tensor in self.regime.named_parameters()}
        self.parameters = [tensor for group in self.optimiser.param_groups for tensor in group["params"]]
        self.names = [names[tensor] for tensor in self.parameters]
        self.checkpointer = Checkpointer(folder, same, self.regime, self.optimiser, seconds=recipe.checkpoint_seconds)
        self.facts: dict[str, Any] = {"curve": {}}
        #: Whether the masks of each validation are kept, as ``masks/STEPS.npz``.
        self.keep_masks = False
        self._validated: list[NDArray[np.uint8]] = []

    def _loader(self, indices: NDArray[np.int64], unlabelled: NDArray[np.int64] | None) -> FinetuneLoader | PatchLoader:
        """Slices, or patches where the recipe says so."""
        recipe = self.recipe
        common: dict[str, Any] = {
            "augment": recipe.augment,
            "batch": recipe.batch,
            "total_steps": recipe.steps,
            "seed": recipe.seed,
            "device": self.fabric.device,
            "unlabelled": unlabelled,
            "unlabelled_batch": recipe.unlabelled_batch,
            "unlabelled_views": self.regime.unlabelled_views,
            "weak_view": self.regime.weak_view,
        }
        if recipe.patch is None:
            return FinetuneLoader(self.store, indices, foreground=recipe.patch_foreground, size=recipe.view, **common)
        return PatchLoader(self.store, indices, patch=recipe.patch, foreground=recipe.patch_foreground, **common)

    def run(self, stop: int | None = None) -> UNet:
        """Train to the end, or to step ``stop`` of the same schedule, and give back the network that predicts."""
        first, facts = self.checkpointer.load() if self.recipe.resume else (0, {})
        self.facts.update(facts)
        self.train_mode()
        self.loop(first, stop).run(self.step, first)
        network = self.regime.inference_network()
        if self.keep_best and (self.folder / BEST).is_file():
            network.load_state_dict(load_file(self.folder / BEST))
        self._take_statistics(network)
        network.eval()
        return network

    def train_mode(self) -> None:
        """Make the regime ready for steps."""
        train_mode(self.regime, frozen=self.recipe.frozen)

    def loop(self, first: int, stop: int | None = None) -> Loop:
        """The loop over the steps from ``first`` to the end, or to ``stop`` of the same schedule."""
        record = Record(self.folder, first)
        return Loop(
            title=self.title,
            module=self.regime,
            optimiser=self.optimiser,
            config=self.recipe.optimiser,
            total_steps=self.recipe.steps,
            stop=stop,
            seed=self.recipe.seed,
            checkpointer=self.checkpointer,
            record=record,
            log_every=self.recipe.log_every,
            schedule=lambda step: self.regime.training_phase(step, self.recipe.steps),
            after_step=self._follow,
            between=lambda step: self._validation(step, record),
            facts=self.facts,
        )

    @property
    def curve(self) -> dict[int, float]:
        """Step → mean validation Dice."""
        return {int(step): float(value) for step, value in self.facts["curve"].items()}

    @property
    def best_dice(self) -> float | None:
        """The highest mean validation Dice."""
        return max(self.curve.values()) if self.curve else None

    @property
    def best_step(self) -> int | None:
        """Number of steps after which validation Dice was highest."""
        return max(self.curve, key=self.curve.__getitem__) if self.curve else None

    def clean(self) -> None:
        """Remove what only an unfinished run needs."""
        barrier()
        if rank() == 0:
            clear(self.folder)

    def step(self, step: int) -> StepResult:
        """Batch, forward pass and gradient."""
        batch = self.loader.batch(step)
        with self.fabric.autocast():
            terms = self.regime.losses(batch)
        total: Tensor = torch.stack([term.float() for term in terms.values()]).sum()
        gradients = gradients_of({"loss": total}, self.names, self.parameters, MeanCombiner(), batch.generator)
        return StepResult(
            total.detach(),
            gradients,
            batch.slices,
            lambda: mean_across(
                {**{f"term/{name}": float(term.detach()) for name, term in terms.items()}, **self.regime.metrics()}
            ),
        )

    def _follow(self, step: int) -> None:
        # A discriminator's own step is here: in the precision of all else.
        with self.fabric.autocast():
            self.regime.after_step(step, self.recipe.steps)
        if self.regime.replaced:
            # Moments of other weights would carry these on the way that those went.
            self.optimiser.state.clear()

    def _validation(self, step: int, record: Record) -> None:
        last = step == self.recipe.steps - 1
        if not self.validation or not (last or (step + 1) % self.recipe.validate_every == 0):
            return
        value = self._validate()
        record.add(step, {"validation_dice": value})
        best = max(self.curve.values(), default=-1.0)
        self.facts["curve"][str(step + 1)] = value
        if self.keep_masks and rank() == 0:
            stream = io.BytesIO()
            np.savez_compressed(stream, *self._validated)
            (self.folder / MASKS).mkdir(exist_ok=True)
            write_bytes(self.folder / MASKS / f"{step + 1}.npz", stream.getvalue())
        if self.keep_best and value > best and rank() == 0:
            weights = self.regime.inference_network().state_dict()
            write_bytes(self.folder / BEST, save({key: tensor.cpu().contiguous() for key, tensor in weights.items()}))
        barrier()

    def _take_statistics(self, network: UNet) -> None:
        """Mix in those of other images, in the precision of training and prediction."""
        if self.statistics is not None:
            with self.fabric.autocast(), plainly(self.recipe.compiled):
                take_statistics(network, self.statistics, self.recipe.recalibrate_share, frozen=self.recipe.frozen)

    def _validate(self) -> float:
        """Mean Dice over validation cases and foreground classes, on the prepared grid."""
        network = self.regime.inference_network()
        if self.statistics is not None:
            # A copy: what is trained goes on as if nobody had looked.
            network = copy.deepcopy(network)
            self._take_statistics(network)
        network.eval()
        self._validated = self.masks(network, self.validation)
        scores = []
        for case, predicted in zip(self.validation, self._validated, strict=True):
            reference = np.asarray(self.store.labels[case.start : case.stop])
            known = reference != UNLABELLED
            scores.append(np.mean(dice_per_class(predicted[known], reference[known], network.classes)))
        self.train_mode()
        return float(np.mean(scores))

    def masks(self, network: UNet, cases: Sequence[PreparedCase]) -> list[NDArray[np.uint8]]:
        """(depth, height, width) cleaned classes of prepared scans.

        Args:
            network: In evaluation mode.
            cases: The scans.
        """
        found = []
        for case in cases:
            images = np.asarray(self.store.images[case.start : case.stop], dtype=np.float32).swapaxes(0, 1)
            window = self.recipe.patch or WINDOW
            with plainly(self.recipe.compiled):
                shares = predict_volume(network, images, device=self.fabric.device, window=window)
            predicted = shares.argmax(axis=0)
            found.append(clean(predicted.astype(np.uint8), self.rule, prepared_voxel(self.store, case))[0])
        return found


def clear(folder: Path) -> None:
    """Remove what only an unfinished fit needs from its folder, and what kills left half written; rank 0 only."""
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)
    sweep_partials(folder)


def train_mode(regime: Regime, *, frozen: bool) -> None:
    """Train mode, in which a frozen encoder keeps its running statistics, as does a teacher's copy of it."""
    regime.train()
    for module in regime.modules():
        if frozen and isinstance(module, UNetEncoder):
            module.eval()
