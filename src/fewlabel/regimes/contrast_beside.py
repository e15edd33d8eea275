"""A contrast beside the pseudo-labels of weak-to-strong regimes: of slices by meta labels, or of pixels by classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fewlabel.core.collective import gather, rank, world_size
from fewlabel.core.errors import Fault
from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import Names, Settings, setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.projection_heads import PixelHead, PooledHead, pixel_rows
from fewlabel.nets.side_effect_free import preserve_buffers
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.objectives.batch_noise_and_turns import own_part
from fewlabel.objectives.contrastive import info_nce, similarity_logits
from fewlabel.objectives.pixel_class_contrast import class_contrast, pixel_set
from fewlabel.objectives.positives import guided_positives, others

#: Size of an embedding.
DIM = 64
#: Pixels of each class that a row gives to the contrast of pixels, at most.
PIXELS = 16


class ContrastSettings(Settings):
    """Settings of a contrast beside pseudo-labels."""

    contrast: float = setting(
        0.0,
        "weight of a contrast beside the pseudo-labels, which grows, halves and ends as λ does; 0 for none",
        ge=0,
        source="own choice: off, nothing has been measured",
    )
    contrast_of: Literal["slices", "pixels"] = setting(
        "slices",
        "what is contrasted: unlabelled slices, by their meta labels, or pixels, by labels and sure pseudo-labels",
        source="own choice; slices: GCL; pixels: SSCL",
    )
    contrast_labels: Names = setting(
        ("position",),
        "meta labels whose slices attract each other, one loss for each; an empty list leaves the two views of a slice",
        source="own choice; GCL: patient, position, phase",
    )
    contrast_temperature: float = setting(0.1, "temperature τ of the contrast", gt=0, source="as the method simclr")


def contrast_faults(settings: ContrastSettings, meta_labels: Mapping[str, int], rows: int) -> list[Fault]:
    """What a contrast cannot work with.

    Args:
        settings: Its settings.
        meta_labels: Name → number of classes among the slices that are trained on.
        rows: Unlabelled rows of a joined batch.
    """
    if settings.contrast == 0 or settings.contrast_of == "pixels":
        return []
    listed = ", ".join(f"{name} ({count})" for name, count in meta_labels.items() if count > 1)
    remedy = f"Choose from {listed}" if listed else "Use contrast_labels=[] or contrast_of=pixels"
    faults = []
    for name in dict.fromkeys(settings.contrast_labels):
        if name not in meta_labels:
            faults.append(Fault(f'the data set has no meta label "{name}"', "regime.contrast_labels", remedy))
        elif meta_labels[name] < 2:
            problem = f'the meta label "{name}" must have at least 2 classes'
            faults.append(Fault(problem, "regime.contrast_labels", remedy))
    if rows < 2:
        problem = "a contrast of slices needs at least 2 unlabelled slices in a batch"
        faults.append(Fault(problem, "unlabelled_batch", "Set unlabelled_batch=2 or more, or regime.contrast=0"))
    return faults


class ContrastBeside(nn.Module):
    """The contrast of a regime's second phase, with its head; neither is there with a weight of 0.

    Args:
        settings: What is contrasted, and how.
        network: The network that is trained.
    """

    def __init__(self, settings: ContrastSettings, network: UNet) -> None:
        super().__init__()
        self.settings = settings
        self.part: SliceContrast | PixelContrast
        if settings.contrast_of == "slices":
            self.part = SliceContrast(settings, network.config)
        else:
            self.part = PixelContrast(settings, network.config, network.classes)
        # Last decoder maps and classes of the rows of each stream, within a step.
        self._shown: list[tuple[Tensor, Tensor]] = []

    @property
    def labels(self) -> tuple[str, ...]:
        """Meta labels that it needs of the unlabelled rows."""
        return tuple(dict.fromkeys(self.settings.contrast_labels)) if isinstance(self.part, SliceContrast) else ()

    def show(self, features: Tensor, labels: Sequence[Tensor]) -> None:
        """Keep for this step what a contrast of pixels compares; that of slices needs nothing.

        Args:
            features: (n, channels, *space), the last decoder map; rows may follow that are in no stream.
            labels: Classes (m, *space) of the rows of each stream in turn.
        """
        if isinstance(self.part, PixelContrast):
            rows = [len(part) for part in labels]
            self._shown = list(zip(torch.split(features[: sum(rows)], rows), labels, strict=True))

    def forward(
        self,
        encoder: nn.Module,
        batch: SegmentationBatch,
        weak: Tensor,
        streams: Callable[..., AbstractContextManager[None]],
    ) -> Tensor:
        """This rank's share of the loss of a step, without its weight.

        Args:
            encoder: That of the student.
            batch: The batch.
            weak: (u, channels, *space), weak views of the unlabelled rows.
            streams: Around a pass, whose statistics its rows use.

        Raises:
            ValueError: If slices are contrasted and the batch does not bring their metadata.
        """
        if isinstance(self.part, PixelContrast):
            shown, self._shown = self._shown, []
            return torch.as_tensor(self.part(shown, batch.generator))
        if batch.unlabelled_slices is None or (self.labels and batch.unlabelled_metadata is None):
            raise ValueError("a contrast of slices needs the metadata of the unlabelled rows")
        again = batch.unlabelled_again
        views = again[:2] if len(again) > 1 else (weak, *again)
        # Views without boxes of other slices, in a pass of their own that leaves running statistics alone.
        with preserve_buffers(encoder), streams(len(weak), len(weak)):
            maps = encoder(torch.cat(views))[-1]
        return torch.as_tensor(self.part(maps, batch.unlabelled_slices, batch.unlabelled_metadata or {}))


class SliceContrast(nn.Module):
    """GCL's image-wise loss (arXiv 2309.08888, Eq. 1) of unlabelled slices, its meta labels averaged.

    An embedding is two layers on the mean of the encoder's last map.

    Args:
        settings: Labels and temperature.
        network: Architecture.
    """

    def __init__(self, settings: ContrastSettings, network: UNetConfig) -> None:
        super().__init__()
        self.settings = settings
        self.head = PooledHead(network.widths[-1], DIM)

    def forward(self, maps: Tensor, slices: Tensor, metadata: Mapping[str, Tensor]) -> Tensor:
        """This rank's share of the loss.

        Args:
            maps: (2u, channels, *places) last encoder maps of the first views, then of the second.
            slices: (u,) int64 store indices.
            metadata: Meta label → (u,) int64 class ids; a slice without one has an id of its own.

        Returns:
            Scalar in full precision.
        """
        settings, count = self.settings, len(slices)
        own = functional.normalize(full_precision(self.head(pixel_rows(maps)).output[:, 0]), dim=1)
        keys = torch.cat([gather(own[:count]), gather(own[count:])])
        logits = similarity_logits(own, keys, settings.contrast_temperature)
        total = len(keys) // 2
        mine = torch.arange(count, device=maps.device) + rank() * count
        mine = torch.cat([mine, mine + total])
        candidates, joined = others(mine, 2 * total), gather(slices)
        wanted: list[Tensor | None] = [gather(metadata[name]) for name in dict.fromkeys(settings.contrast_labels)]
        losses = [info_nce(logits, guided_positives(joined, label, mine), candidates) for label in wanted or [None]]
        return torch.stack(losses).mean()


class PixelContrast(nn.Module):
    """SSCL's loss (code form) of pixels of the last decoder map, by labels and sure pseudo-labels.

    Each row gives up to 16 pixels of each class, drawn at random; an embedding is two layers on a pixel's channels.

    Args:
        settings: Temperature.
        network: Architecture.
        classes: Number of classes, background included.
    """

    def __init__(self, settings: ContrastSettings, network: UNetConfig, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.classes = classes
        self.head = PixelHead(network.width, DIM)

    def forward(self, streams: list[tuple[Tensor, Tensor]], generator: Generator) -> Tensor:
        """This rank's share of the loss.

        Args:
            streams: Last decoder maps (n, channels, *space) and classes (n, *space), 255 where a pixel takes no part,
                of each stream of rows; each rank has as many rows of a stream.
            generator: CPU generator, equal on all ranks.

        Returns:
            Scalar in full precision; 0 with a usable graph where no pixel is an anchor.
        """
        rows, labels = [], []
        for maps, classes in streams:
            places, drawn = self._draw(classes.flatten(1), generator)
            # Only what was drawn goes through the head.
            features = pixel_rows(maps).take_along_dim(places[..., None], dim=1)
            rows.append(functional.normalize(full_precision(self.head(features).output), dim=2).flatten(0, 1))
            labels.append(drawn.flatten())
        own_rows, own_labels = torch.cat(rows), torch.cat(labels)
        keys, joined = gather(own_rows), gather(own_labels)
        mine = torch.arange(len(joined), device=joined.device) // len(own_labels) == rank()
        counts = joined >= 0
        pixels = pixel_set(joined[counts])
        return class_contrast(keys[counts], pixels, mine[counts], self.settings.contrast_temperature)

    def _draw(self, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Places (n, k) of pixels in their row, and their classes, -1 for a place that stands for nothing."""
        count, length = labels.shape
        chance = torch.rand(count * world_size(), length, generator=generator)
        chance = own_part(chance).to(labels.device)
        many = min(PIXELS, length)
        places, drawn = [], []
        for one in range(self.classes):
            best, where = torch.where(labels == one, chance, -1.0).topk(many, dim=1)
            places.append(where)
            drawn.append(torch.where(best >= 0, one, -1))
        return torch.cat(places, dim=1), torch.cat(drawn, dim=1)
