"""Batches for training: slices drawn by step, augmented on the training device, this process's rows kept.

A batch is a function of the seed and the step alone, so nothing about data has to be saved for a resumed run, and
the rows of all ranks together are the batch of a single process.
"""

from __future__ import annotations

from dataclasses import replace
from math import floor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.rng import numpy_stream, stream_seed, torch_stream
from fewlabel.data.augment import Augmenter, Transform
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.batch import PretrainBatch
from fewlabel.data.batch_source import SliceSource, class_ids, labelled_slices, own_rows
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.label_based_augmentation import Variants, variants_of
from fewlabel.data.patch_positions import FOREGROUND
from fewlabel.data.sampling import SamplerConfig, SliceSampler, build_sampler
from fewlabel.data.store import PreparedStore
from fewlabel.data.streams import SegmentationLoader, Stream


def _view(
    augmenter: Augmenter | None,
    images: Tensor,
    transform: Transform | None,
    masks: Tensor | None,
    displacement: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    if augmenter is None or transform is None:
        return standardise(images).contiguous(memory_format=torch.channels_last), masks
    images, masks = augmenter.apply(images, transform, masks, displacement)
    return augmenter.finish(images, transform).contiguous(memory_format=torch.channels_last), masks


class PretrainLoader:
    """Two augmented views of every slice of a batch, with its meta labels.

    Args:
        store: Prepared store.
        indices: Store indices of the slices to learn from.
        sampler: How batches are drawn, ``auto`` settled, and how much may be kept on the device.
        augment: What views are made of.
        batch: Slices of the joined batch.
        total_steps: Length of the run in steps.
        seed: Seed of batches, augmentation and the batch's generator.
        device: Training device.
        labelled: Store indices of the labelled slices of the draw, for methods that learn from labels, or None. No
            other mask is read.
        shuffled: Give each slice of ``indices`` all metadata of another one, drawn once for the run. Batches are drawn
            by these, so that they have as many positives as ever, of slices that have nothing to do with each other.

    Raises:
        SettingsError: If the joined batch does not divide by the number of processes.
        DataError: If there is no slice, or a labelled one has no mask.
        ValueError: If the kind of the sampler is still ``auto``.
    """

    def __init__(
        self,
        store: PreparedStore,
        indices: NDArray[np.int64],
        *,
        sampler: SamplerConfig,
        augment: AugmentConfig,
        batch: int,
        total_steps: int,
        seed: int,
        device: torch.device | str = "cpu",
        labelled: NDArray[np.int64] | None = None,
        shuffled: bool = False,
    ) -> None:
        own_rows(batch, "batch")
        self.sampler = build_sampler(sampler, store.slices.iloc[np.unique(indices)], batch, seed)
        self.augmenter = Augmenter(augment)
        self.seed = seed
        self.total_steps = total_steps
        self.device = torch.device(device)
        limit = round(sampler.resident_limit * 1024**3)
        self.source = SliceSource(store, self.sampler.indices, self.device, False, limit)
        self.labelled = None if labelled is None else labelled_slices(store, labelled)
        self.variants: Variants | None = None
        if self.labelled is not None:
            self.annotated = SliceSource(store, self.labelled, self.device, True, limit)
            self.variants = variants_of(store, self.labelled, augment, seed=seed, device=self.device)
        self._size = (int(store.images.shape[2]), int(store.images.shape[3]))
        self._store = store
        self._heights = store.slices["height_fraction"].to_numpy(dtype=np.float32)
        #: The slice that is shown with the metadata of a slice.
        self._shown = np.arange(len(store.slices))
        if shuffled:
            self._shown[self.sampler.indices] = numpy_stream(seed, "shuffled metadata").permutation(
                self.sampler.indices
            )

    def batch(
        self, step: int, *, labelled: bool = False, same_geometry: bool = False, slices: int | None = None
    ) -> PretrainBatch:
        """This process's part of the batch of a step, from 0.

        Args:
            step: Number of the step.
            labelled: Draw from the labelled slices of the draw, with masks.
            same_geometry: Give both views of a slice one geometry; intensities stay independent.
            slices: Slices of the joined batch, of all slices no more than the run's number; None for that number.

        Raises:
            RuntimeError: If labelled slices are asked for and none were given.
            ValueError: If more slices are asked for than the run's batch has.
        """
        joined, source = self._draw(step, labelled, slices)
        rows = own_rows(len(joined), "batch")
        described = joined[rows.kept]
        own_slices = described if labelled else self._shown[described]
        drawn = self.augmenter.sample(2 * rows.count, self._size, torch_stream(self.seed, "augment", step))
        first, second = (drawn[start + rows.start : start + rows.stop] for start in (0, rows.count))
        if same_geometry:
            second = replace(second, matrices=first.matrices, control=first.control)
        images, masks = source.read(own_slices)
        moved = None
        if masks is not None and self.variants is not None:
            # Both views show one anatomy in one contrast: what a method compares are augmentations of a slice.
            drawn_variants = self.variants.draw(step, rows.count)[rows.kept]
            images, moved = self.variants.make(images, masks, own_slices, drawn_variants)
        view1, mask1 = _view(self.augmenter, images, first, masks, moved)
        view2, mask2 = _view(self.augmenter, images, second, masks, moved)
        return PretrainBatch(
            views=(view1, view2),
            matrices=(first.matrices.to(self.device), second.matrices.to(self.device)),
            metadata=class_ids(self._store, self._store.meta_labels, described, self.device),
            positions=torch.from_numpy(self._heights[described]).to(self.device),
            slices=torch.from_numpy(own_slices.copy()).to(self.device),
            step=step,
            total_steps=self.total_steps,
            generator=torch_stream(self.seed, "step", step),
            masks=None if mask1 is None or mask2 is None else (mask1, mask2),
        )

    def _draw(self, step: int, labelled: bool, slices: int | None) -> tuple[NDArray[np.int64], SliceSource]:
        """Store indices of the joined batch, and where to read them."""
        count = self.sampler.batch_size if slices is None else slices
        if labelled:
            if self.labelled is None:
                raise RuntimeError("the loader was opened without labelled slices")
            return SliceSampler(self.labelled, count, stream_seed(self.seed, "labelled")).batch(step), self.annotated
        if count > self.sampler.batch_size:
            raise ValueError(f"a batch of all slices has at most {self.sampler.batch_size}, not {count}")
        # A smaller batch is the beginning of the usual one.
        return self.sampler.batch(step)[:count], self.source


class FinetuneLoader(SegmentationLoader[Stream]):
    """Labelled slices, augmented together with their masks, and unlabelled ones for regimes that use them.

    Views may be smaller than the slices. A set share of the labelled ones is then about a random labelled pixel of a
    random class of the slice, shifted as augmentation says; all others lie anywhere.

    Args:
        store: Prepared store.
        indices: Store indices of the labelled slices.
        foreground: Share of labelled views about a labelled pixel of a class, 0 to 1; exact over the run.
        **common: Of :class:`~fewlabel.data.streams.SegmentationLoader`, whose errors are those of this class.
    """

    def __init__(
        self, store: PreparedStore, indices: NDArray[np.int64], *, foreground: float = FOREGROUND, **common: Any
    ) -> None:
        self.foreground = foreground
        super().__init__(store, indices, **common)

    def _stream(self, source: SliceSource, count: int, seed: int, purpose: str, views: int, weak: bool) -> Stream:
        return Stream(source, SliceSampler(source.drawn, count, seed), purpose, views, weak)

    def _rows(self, stream: Stream, step: int) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
        joined = stream.sampler.batch(step)
        rows = own_rows(len(joined), "batch")
        indices = joined[rows.kept]
        images, masks = stream.source.read(indices)
        moved = None
        if masks is not None and self.variants is not None:
            images, moved = self.variants.make(images, masks, indices, self.variants.draw(step, rows.count)[rows.kept])
        focus = self._focus(stream, joined, step)
        if focus is not None and moved is not None:
            # Rows of other ranks are drawn apart from these: only where these are looked at matters.
            focus[rows.kept] = shown_at(moved, focus[rows.kept])
        made = [
            _view(self.augmenter, images, None if transform is None else transform[rows.kept], masks, moved)
            for transform in self._transforms(stream, step, rows.count, focus)
        ]
        return torch.from_numpy(indices).to(self.device), tuple(view for view, _ in made), made[0][1]

    def _focus(self, stream: Stream, joined: NDArray[np.int64], step: int) -> Tensor | None:
        """The pixels that labelled views are about, as in ``_transforms``; of the joined batch, so that ranks agree."""
        if self._view is None or not stream.source.masks:
            return None
        points = torch.full((len(joined), 2), torch.nan, dtype=torch.float64)
        for row, index in enumerate(joined.tolist()):
            number = step * len(joined) + row
            if floor((number + 1) * self.foreground) > floor(number * self.foreground):
                pixel = labelled_pixel(self.store.labels[index], len(self.store.label_names), self.seed, step, row)
                if pixel is not None:
                    points[row] = torch.tensor([pixel[1], pixel[0]])
        return points


def shown_at(displacement: Tensor, points: Tensor) -> Tensor:
    """Where displaced slices show source pixels, to the nearest pixel.

    Args:
        displacement: (n, 2, height, width) in pixels: what a pixel (x, y) shows lies so far from it.
        points: (n, 2) source pixels (x, y), NaN for none, which stays.
    """
    height, width = displacement.shape[-2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    sources = torch.stack([columns, rows]) + displacement.cpu()
    nearest = (sources - points.float()[:, :, None, None]).square().sum(dim=1).flatten(1).argmin(dim=1)
    return torch.where(points.isnan(), points, torch.stack([nearest % width, nearest // width], dim=1).to(points))


def labelled_pixel(mask: NDArray[np.uint8], classes: int, seed: int, step: int, row: int) -> tuple[int, int] | None:
    """A random pixel (row, column) of a random class of a mask: every class it has is as likely, and every pixel of it.

    Args:
        mask: (height, width) class indices, 0 the background, 255 unlabelled.
        classes: Number of classes.
        seed: Of the run.
        step: Of the batch.
        row: Of the joined batch.

    Returns:
        None for a mask without any class.
    """
    present = [label for label in np.unique(mask).tolist() if 0 < label < classes]
    if not present:
        return None
    generator = numpy_stream(seed, "view", step, row)
    rows, columns = np.nonzero(mask == present[int(generator.integers(len(present)))])
    pick = int(generator.integers(len(rows)))
    return int(rows[pick]), int(columns[pick])
