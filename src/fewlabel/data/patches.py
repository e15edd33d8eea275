"""Batches of 3D patches, cut from the scans of a prepared store.

Like the batches of slices (``fewlabel.data.batch_loading``) they are a function of the seed and the step alone, and
the rows of all ranks together are the batch of one process. One patch is made at a time, so memory is bounded by the
full slices of one patch (a few float32 copies of depth x height x width of the store's grid) beside the batch itself;
the store is read from its memory map, or kept on the device where it is small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.rng import numpy_stream
from fewlabel.data.augment import Transform
from fewlabel.data.batch_source import SliceSource, own_rows
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.label_based_augmentation import VariantDraws
from fewlabel.data.patch_positions import FOREGROUND, Patch, Run, Window, counted, draw_window, first_voxel, volumes_of
from fewlabel.data.sampling import SliceSampler
from fewlabel.data.store import UNLABELLED, PreparedStore
from fewlabel.data.streams import SegmentationLoader, Stream


@dataclass(frozen=True)
class _Volumes(Stream):
    """A stream whose sampler draws numbers of volumes."""

    runs: Sequence[Run]
    foreground: float


class PatchLoader(SegmentationLoader[_Volumes]):
    """Labelled patches with their masks, and unlabelled ones for regimes that use them.

    Every epoch takes one patch of each volume, which is a whole scan, even if only some of its slices are to be drawn:
    every patch shows one of those at least, beside neighbours as they are, whose label is 255. A set share of the
    labelled patches is centred, as far as the volume reaches, on a random labelled voxel of a random class of the
    volume (nnU-Net); all others lie anywhere. The slices of a patch are augmented in full and share one in-plane
    geometry and change of contrast, while noise differs from slice to slice; they are standardised in full, as in
    prediction, and cut last. Nothing is resampled across the slices. A volume smaller than the patch lies in its
    middle, in zeros whose label is 255.

    Args:
        store: Prepared store.
        indices: Store indices of the labelled slices.
        patch: Size in voxels (depth, height, width).
        foreground: Share of labelled patches about a labelled voxel of a class, 0 to 1; exact over the run.
        **common: Of :class:`~fewlabel.data.streams.SegmentationLoader`, whose errors are those of this class; rows are
            patches, and augmentation is in the slice plane.
    """

    def __init__(
        self,
        store: PreparedStore,
        indices: NDArray[np.int64],
        *,
        patch: Patch,
        foreground: float = FOREGROUND,
        **common: Any,
    ) -> None:
        self.patch = patch
        self.foreground = foreground
        super().__init__(store, indices, **common)

    def _shown(self, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        """All slices of their scans."""
        volumes = volumes_of(self.store, drawn)
        return np.concatenate([np.arange(run.start, run.stop) for run in volumes]) if volumes else drawn

    def _stream(self, source: SliceSource, count: int, seed: int, purpose: str, views: int, weak: bool) -> _Volumes:
        runs = volumes_of(self.store, source.drawn)
        sampler = SliceSampler(np.arange(len(runs)), count, seed)
        if not source.masks:
            return _Volumes(source, sampler, purpose, views, weak, runs, 0.0)
        runs = [counted(self.store, run) for run in runs]
        return _Volumes(source, sampler, purpose, views, weak, runs, self.foreground)

    def _rows(self, stream: _Volumes, step: int) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
        """As in the base; the slice of a patch is its first, ``space`` is (depth, height, width)."""
        joined = stream.sampler.batch(step)
        rows = own_rows(len(joined), "batch")
        transforms = self._transforms(stream, step, rows.count)
        variants = self.variants if stream.source.masks else None
        drawn_variants = None if variants is None else variants.draw(step, rows.count)
        firsts: list[int] = []
        views: list[list[Tensor]] = [[] for _ in range(stream.views)]
        masks: list[Tensor] = []
        for row in range(rows.start, rows.stop):
            window = self._window(stream, stream.runs[int(joined[row])], step, row, rows.count)
            firsts.append(int(window.slices[0]))
            drawn = [None if transform is None else transform[row : row + 1] for transform in transforms]
            # All slices of a patch take the same draws.
            alike = None if drawn_variants is None else drawn_variants[torch.full((self.patch[0],), row)]
            made, mask = self._cut(stream.source, window, drawn, alike)
            for kept, view in zip(views, made, strict=True):
                kept.append(view)
            masks.extend([] if mask is None else [mask])
        stacked = tuple(torch.stack(kept).contiguous(memory_format=torch.channels_last_3d) for kept in views)
        return torch.tensor(firsts, device=self.device), stacked, torch.stack(masks) if masks else None

    def _window(self, stream: _Volumes, run: Run, step: int, row: int, count: int) -> Window:
        """Where the patch of a row of the joined batch lies; other rows do not change it."""
        generator = numpy_stream(self.seed, f"patch{stream.purpose}", step, row)
        number = step * count + row
        wanted = floor((number + 1) * stream.foreground) > floor(number * stream.foreground)
        return draw_window(self.store, run, self.patch[0], generator, foreground=wanted)

    def _cut(
        self,
        source: SliceSource,
        window: Window,
        transforms: Sequence[Transform | None],
        variants: VariantDraws | None = None,
    ) -> tuple[list[Tensor], Tensor | None]:
        """Views (channels, *patch) of one window, and its mask."""
        images, masks = source.read(window.slices)
        moved = None
        if self.variants is not None and masks is not None and variants is not None:
            images, moved = self.variants.make(images, masks, window.slices, variants)
        depth, channels = images.shape[:2]
        # Slices as channels: one sampling grid serves them all.
        folded = images.flatten(0, 1)[None]
        layers = None if masks is None else masks[None]
        centre = window.centre
        if centre is not None and transforms[0] is not None:
            centre = _shown_at(transforms[0], centre, None if moved is None else moved[window.level, None])
        top, left = (
            first_voxel(side, wanted, u, None if centre is None else centre[axis])
            for axis, (side, wanted, u) in enumerate(zip(self._size, self.patch[1:], window.place, strict=True))
        )
        inside = torch.from_numpy(window.inside).to(self.device)
        views, mask = [], None
        for transform in transforms:
            if self.augmenter is not None and transform is not None:
                view, warped = self.augmenter.apply(folded, transform, layers if mask is None else None, moved)
                view = self.augmenter.finish(view, transform)
            else:
                view, warped = standardise(folded), layers
            plane = _crop(view[0], top, left, self.patch[1:], 0.0)
            view = plane.reshape(depth, channels, *self.patch[1:]).transpose(0, 1)
            views.append(torch.where(inside[:, None, None], view, 0.0))
            if warped is not None and mask is None:
                cropped = _crop(warped[0].long(), top, left, self.patch[1:], UNLABELLED)
                mask = torch.where(inside[:, None, None], cropped, UNLABELLED)
        return views, mask


def _shown_at(transform: Transform, voxel: tuple[int, int], displacement: Tensor | None = None) -> tuple[int, int]:
    """The view pixel (row, column) that shows a source pixel, or the nearest to it where none does."""
    points = transform.source_points()[0]
    if displacement is not None:
        height, width = transform.size
        x, y = transform.grid(displacement.device, displacement)[0].cpu().unbind(-1)
        points = torch.stack([((x + 1) * width - 1) / 2, ((y + 1) * height - 1) / 2])
    target = torch.tensor([voxel[1], voxel[0]], dtype=torch.float32)[:, None, None]
    place = int((points - target).square().sum(dim=0).argmin())
    return divmod(place, transform.size[1])


def _crop(layers: Tensor, top: int, left: int, size: tuple[int, ...], fill: float) -> Tensor:
    """Window of ``size`` of layers (k, height, width); what lies outside of them is ``fill``."""
    height, width = layers.shape[-2:]
    rows = slice(max(top, 0), min(top + size[0], height))
    columns = slice(max(left, 0), min(left + size[1], width))
    part = layers[:, rows, columns]
    if tuple(part.shape[-2:]) == tuple(size):
        return part
    out = layers.new_full((len(layers), *size), fill)
    out[:, rows.start - top : rows.stop - top, columns.start - left : columns.stop - left] = part
    return out
