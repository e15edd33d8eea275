"""Trains one segmentation network: a regime on a fixed set of labelled slices, with or without validation."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.artifact.files import write_bytes
from fewlabel.core.collective import barrier, mean_across, rank
from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.progress import say
from fewlabel.core.rng import stream_seed
from fewlabel.core.unfinished_files import sweep_partials
from fewlabel.data.batch import SegmentationBatch
from fewlabel.data.batch_loading import FinetuneLoader
from fewlabel.data.evenly_spread_slices import Spread
from fewlabel.data.patches import PatchLoader
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore
from fewlabel.engine.checkpoint import CHECKPOINT
from fewlabel.engine.compiling import plainly
from fewlabel.engine.inference import WINDOW, predict_volume
from fewlabel.engine.record import Record
from fewlabel.engine.tensor_file import read_tensors_of_run, write_tensors
from fewlabel.engine.trainer import Trainer
from fewlabel.nets.class_prior import begin_as
from fewlabel.nets.memory_layout import channels_last
from fewlabel.nets.unet import UNet, UNetEncoder
from fewlabel.regimes.base import Regime
from fewlabel.scoring.component_rule import ComponentRule, clean
from fewlabel.scoring.metrics import dice_per_class
from fewlabel.stages._batch_norm_statistics import take_statistics
from fewlabel.stages._cleaning_rule import prepared_voxel
from fewlabel.stages._shape_checks import patch_size, view_size
from fewlabel.stages.finetune.settings import FinetuneSettings, Mode
from fewlabel.stages.finetune.validated_weights import ValidatedWeights

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BEST = "best.safetensors"
#: Folder of the masks of each validation, where they are kept.
MASKS = "masks"


class SegmentationTrainer(Trainer[Regime]):
    """Trains one network in one folder.

    Args:
        settings: Settings of the stage, as the run is built; the seed is that of this network.
        mode: What becomes of the encoder.
        fabric: Device and precision.
        store: The prepared data.
        network: The network, on the device.
        indices: Store indices of the labelled slices.
        unlabelled: Store indices of slices without labels, for regimes that use them. If there are none, as where every
            slice of every patient is labelled, the labelled slices serve, masks unread.
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
        settings: FinetuneSettings,
        mode: Mode,
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
        self.settings: FinetuneSettings
        self.store = store
        self.validation = tuple(validation)
        self.statistics = statistics
        self.rule = rule
        self.keep_best = keep_best
        #: Whether the encoder keeps its weights and statistics.
        self.frozen = mode == "frozen"
        self.patch = patch_size(settings.patch)
        self.view = view_size(settings.view, store.images.shape[2:])
        regime_class = load_plugin("fewlabel.regimes", settings.regime.name)
        torch.manual_seed(stream_seed(settings.seed, "regime"))
        regime: Regime = regime_class(settings.regime, network, pretrained=mode != "scratch").to(fabric.device)
        if settings.class_prior:
            begin_as(network, regime.further_classifiers())
        channels_last(regime)
        encoders = regime.encoders()
        if self.frozen:
            for encoder in encoders:
                encoder.requires_grad_(requires_grad=False)
        share = settings.encoder_lr if mode == "warm" else 1.0
        super().__init__(
            regime,
            settings,
            fabric,
            folder,
            same,
            title=title,
            factors={tensor: share for encoder in encoders for tensor in encoder.parameters()},
            undecayed=[tensor for module in regime.undecayed() for tensor in module.parameters()],
        )
        if regime.uses_unlabelled and len(unlabelled) == 0:
            theirs = "takes those of the labelled patients, masks unread"
            say(f"No training slice is left without labels: {settings.regime.name} {theirs}.")
            unlabelled = indices
        self.loader = self._loader(indices, unlabelled if regime.uses_unlabelled else None)
        self.facts = {"curve": {}}
        #: Takes the weights of each validation; its masks are kept, too, as ``masks/STEPS.npz``. None: neither.
        self.kept: ValidatedWeights | None = None
        self._validated: list[NDArray[np.uint8]] = []

    def _loader(self, indices: NDArray[np.int64], unlabelled: NDArray[np.int64] | None) -> FinetuneLoader | PatchLoader:
        """Slices, or patches where the settings ask for them."""
        settings, regime = self.settings, self.model
        common: dict[str, Any] = {
            "augment": settings.augment,
            "batch": settings.batch,
            "total_steps": settings.steps,
            "seed": settings.seed,
            "foreground": settings.patch_foreground,
            "device": self.fabric.device,
            "unlabelled": unlabelled,
            "unlabelled_batch": settings.unlabelled_batch,
            "unlabelled_views": regime.unlabelled_views,
            "weak_view": regime.weak_view,
            "metadata": regime.uses_metadata,
        }
        if self.patch is None:
            return FinetuneLoader(self.store, indices, size=self.view, **common)
        return PatchLoader(self.store, indices, patch=self.patch, **common)

    def run(self, stop: int | None = None) -> UNet:
        """Train to the end, or to step ``stop`` of the same schedule, and give back the network that predicts."""
        self.train(stop)
        network = self.model.inference_network()
        if self.keep_best and (self.folder / BEST).is_file():
            weights, _ = read_tensors_of_run(self.folder / BEST, f"Delete {self.folder} to start over")
            network.load_state_dict(weights)
        self.take_statistics(network)
        network.eval()
        return network

    def train_mode(self) -> None:
        """Make the regime ready for steps."""
        train_mode(self.model, frozen=self.frozen)

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

    def batch(self, step: int) -> SegmentationBatch:
        """Labelled slices, and unlabelled ones for regimes that use them."""
        return self.loader.batch(step)

    def terms(self, losses: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The sum of the regime's terms."""
        return {"loss": torch.stack([term.float() for term in losses.values()]).sum()}

    def followed(self, step: int, losses: Mapping[str, Tensor], loss: Tensor) -> Callable[[], Mapping[str, Any]]:  # noqa: ARG002
        """The regime's terms and figures."""
        return lambda: mean_across(
            {**{f"term/{name}": float(term.detach()) for name, term in losses.items()}, **self.model.metrics()}
        )

    def after_step(self, step: int) -> None:
        """What the regime does once the optimiser has stepped."""
        # A discriminator's own step is here: in the precision of all else.
        with self.fabric.autocast():
            super().after_step(step)
        if self.model.replaced:
            # Moments of other weights would carry these on the way that those went.
            self.optimiser.state.clear()

    def between(self, step: int, record: Record) -> None:
        """Validate, where it is time for it."""
        last = step == self.settings.steps - 1
        if not self.validation or not (last or (step + 1) % self.settings.validate_every == 0):
            return
        network = self.network_so_far()
        value = self.score(network)
        record.add(step, {"validation_dice": value})
        best = max(self.curve.values(), default=-1.0)
        self.facts["curve"][str(step + 1)] = value
        if self.kept is not None and rank() == 0:
            self.kept.keep(step + 1, network, self.curve)
            stream = io.BytesIO()
            np.savez_compressed(stream, *self._validated)
            (self.folder / MASKS).mkdir(exist_ok=True)
            write_bytes(self.folder / MASKS / f"{step + 1}.npz", stream.getvalue())
        if self.keep_best and value > best and rank() == 0:
            write_tensors(self.folder / BEST, self.model.inference_network().state_dict(), {"step": step + 1})
        barrier()

    def take_statistics(self, network: UNet) -> None:
        """Mix statistics of other images into those of a network, in the precision of training and prediction."""
        if self.statistics is not None:
            with self.fabric.autocast(), plainly(self.compiled):
                take_statistics(network, self.statistics, self.settings.recalibrate_share, frozen=self.frozen)

    def validate(self) -> float:
        """What :meth:`score` has of the network as it is now."""
        return self.score(self.network_so_far())

    def network_so_far(self) -> UNet:
        """The network that predicts, as it would be given back after the steps so far, in evaluation mode.

        It may be the one that is trained, which :meth:`train_mode` makes ready again.
        """
        network = self.model.inference_network()
        if self.statistics is not None:
            # A copy: what is trained goes on as if nobody had looked.
            network = copy.deepcopy(network)
            self.take_statistics(network)
        return network.eval()

    def score(self, network: UNet) -> float:
        """Mean Dice over validation cases and foreground classes, on the prepared grid; training may go on after it.

        Args:
            network: In evaluation mode.
        """
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
        cleaned = []
        for case in cases:
            images = np.asarray(self.store.images[case.start : case.stop], dtype=np.float32).swapaxes(0, 1)
            window = self.patch or WINDOW
            with plainly(self.compiled):
                shares = predict_volume(network, images, device=self.fabric.device, window=window)
            predicted = shares.argmax(axis=0)
            cleaned.append(clean(predicted.astype(np.uint8), self.rule, prepared_voxel(self.store, case))[0])
        return cleaned


def clear(folder: Path) -> None:
    """Remove what only an unfinished training needs from its folder, and what kills left half written; rank 0 only."""
    for name in (CHECKPOINT, BEST):
        (folder / name).unlink(missing_ok=True)
    sweep_partials(folder)


def train_mode(regime: Regime, *, frozen: bool) -> None:
    """Train mode, in which a frozen encoder keeps its running statistics, as does a teacher's copy of it."""
    regime.train()
    for module in regime.modules():
        if frozen and isinstance(module, UNetEncoder):
            module.eval()
