"""Batches for training: slices drawn by step, augmented on the training device, this process's rows kept.

A batch is a function of the seed and the step alone, so nothing about data has to be saved for a resumed run, and
the rows of all ranks together are the batch of a single process.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.collective import rank, world_size
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.rng import stream_seed, torch_stream
from fewlabel.data.augment import AugmentConfig, Augmenter, Transform, standardise
from fewlabel.data.batch import PretrainBatch, SegmentationBatch
from fewlabel.data.sampling import Sampler, SamplerConfig, SliceSampler, build_sampler
from fewlabel.data.store import PreparedStore

#: Largest part of a store kept on the training device, in bytes; a bigger one is read from disk batch by batch.
RESIDENT_LIMIT = 2 * 1024**3


class SliceSource:
    """The slices that one sampler can draw, on the training device if they fit there.

    Args:
        store: Prepared store.
        indices: Ascending store indices.
        device: Training device.
        masks: Whether masks are needed.
        resident_limit: Bytes that may be kept on the device.
    """

    def __init__(
        self, store: PreparedStore, indices: NDArray[np.int64], device: torch.device, masks: bool, resident_limit: int
    ) -> None:
        self.store = store
        self.indices = indices
        self.device = device
        self.masks = masks
        pixels = len(indices) * int(np.prod(store.images.shape[2:]))
        self.resident = pixels * (2 * store.images.shape[1] + masks) <= resident_limit
        if self.resident:
            self._images = torch.from_numpy(np.ascontiguousarray(store.images[indices])).to(device)
            self._labels = torch.from_numpy(np.ascontiguousarray(store.labels[indices])).to(device) if masks else None

    def read(self, chosen: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """Images (n, channels, height, width) float32 and masks (n, height, width) uint8 or None, on the device."""
        if self.resident:
            rows = torch.from_numpy(np.searchsorted(self.indices, chosen)).to(self.device)
            labels = None if self._labels is None else self._labels.index_select(0, rows)
            return self._images.index_select(0, rows).float(), labels
        images = torch.from_numpy(self.store.images[chosen]).to(self.device).float()
        return images, torch.from_numpy(self.store.labels[chosen]).to(self.device) if self.masks else None


def labelled_slices(store: PreparedStore, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same store indices, ascending and each once, all of which have a mask.

    Raises:
        DataError: If some have none; their cases are named.
    """
    indices = np.unique(np.asarray(indices, dtype=np.int64))
    table = store.slices.iloc[indices]
    bare = sorted(table.loc[~table["labelled"].to_numpy(dtype=bool), "case"].unique())
    if bare:
        fault = Fault("a labelled slice needs a mask", f"none for {', '.join(bare)}", "labelled subjects")
        raise DataError("Some scans cannot be trained on:", [fault])
    return indices


@dataclass(frozen=True)
class Rows:
    """This process's rows of a joined batch of ``count`` slices."""

    count: int
    start: int
    stop: int

    @property
    def kept(self) -> slice:
        """Own rows of the joined batch."""
        return slice(self.start, self.stop)


def own_rows(count: int, setting: str) -> Rows:
    """This process's rows of a joined batch.

    Args:
        count: Rows of the joined batch.
        setting: The setting that says so, for the message.

    Raises:
        SettingsError: If they do not divide by the number of processes.
    """
    if count < 1 or count % world_size():
        rule = f"the batch must hold at least 1 slice and divide by the {world_size()} processes"
        near = max(world_size(), count - count % world_size())
        fault = Fault(rule, str(count), setting, f"e.g. {setting}={near}")
        raise SettingsError("These settings are not valid:", [fault])
    share = count // world_size()
    return Rows(count, rank() * share, (rank() + 1) * share)


def _view(
    augmenter: Augmenter | None, images: Tensor, transform: Transform | None, masks: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if augmenter is not None and transform is not None:
        images, masks = augmenter.apply(images, transform, masks)
    return standardise(images).contiguous(memory_format=torch.channels_last), masks


class PretrainLoader:
    """Two augmented views of every slice of a batch, with its meta labels.

    Args:
        store: Prepared store.
        indices: Store indices of the slices to learn from.
        sampler: How batches are drawn, and how much may be kept on the device.
        augment: What views are made of.
        batch: Slices of the joined batch.
        total_steps: Length of the run in steps.
        seed: Seed of batches, augmentation and the batch's generator.
        device: Training device.
        labelled: Store indices of the labelled slices of the draw, for methods that learn from labels, or None. No
            other mask is read.

    Raises:
        SettingsError: If the joined batch does not divide by the number of processes.
        DataError: If there is no slice, or a labelled one has no mask.
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
        if self.labelled is not None:
            self.annotated = SliceSource(store, self.labelled, self.device, True, limit)
        self._size = (int(store.images.shape[2]), int(store.images.shape[3]))
        self._classes = store.meta_labels
        self._codes = {name: store.slices[f"meta_{name}"].to_numpy(dtype=np.int64) for name in self._classes}
        self._heights = store.slices["height_fraction"].to_numpy(dtype=np.float32)

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
        chosen = joined[rows.kept]
        drawn = self.augmenter.sample(2 * rows.count, self._size, torch_stream(self.seed, "augment", step))
        first, second = (drawn[start + rows.start : start + rows.stop] for start in (0, rows.count))
        if same_geometry:
            second = replace(second, matrices=first.matrices, control=first.control)
        images, masks = source.read(chosen)
        view1, mask1 = _view(self.augmenter, images, first, masks)
        view2, mask2 = _view(self.augmenter, images, second, masks)
        return PretrainBatch(
            views=(view1, view2),
            matrices=(first.matrices.to(self.device), second.matrices.to(self.device)),
            metadata={name: self._metadata(name, chosen) for name in self._codes},
            positions=torch.from_numpy(self._heights[chosen]).to(self.device),
            slices=torch.from_numpy(chosen.copy()).to(self.device),
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

    def _metadata(self, name: str, chosen: NDArray[np.int64]) -> Tensor:
        codes = self._codes[name][chosen]
        # Store indices make ids that are unique over all ranks without exchanging a word.
        return torch.from_numpy(np.where(codes < 0, self._classes[name] + chosen, codes)).to(self.device)


class FinetuneLoader:
    """Labelled slices, augmented together with their masks, and unlabelled ones for regimes that use them.

    Args:
        store: Prepared store.
        indices: Store indices of the labelled slices.
        augment: What is done to the slices; None trains on them as they are.
        batch: Labelled slices of the joined batch.
        total_steps: Length of the run in steps.
        seed: Seed of batches, augmentation and the batch's generator.
        device: Training device.
        unlabelled: Store indices of slices whose labels are not read, or None.
        unlabelled_batch: Unlabelled slices of the joined batch; as many as labelled ones by default.
        unlabelled_views: 2 for a second view of each unlabelled slice, of the same geometry.
        resident_limit: Bytes of slices that may be kept on the device, for each of the two streams.

    Raises:
        SettingsError: If a joined batch does not divide by the number of processes.
        DataError: If there is no slice, or the labelled ones hold some without a mask.
    """

    def __init__(
        self,
        store: PreparedStore,
        indices: NDArray[np.int64],
        *,
        augment: AugmentConfig | None,
        batch: int,
        total_steps: int,
        seed: int,
        device: torch.device | str = "cpu",
        unlabelled: NDArray[np.int64] | None = None,
        unlabelled_batch: int | None = None,
        unlabelled_views: int = 1,
        resident_limit: int = RESIDENT_LIMIT,
    ) -> None:
        own_rows(batch, "batch")
        self.sampler = SliceSampler(indices, batch, seed)
        self.augmenter = None if augment is None else Augmenter(augment)
        self.seed = seed
        self.total_steps = total_steps
        self.device = torch.device(device)
        labelled_slices(store, self.sampler.indices)
        self.source = SliceSource(store, self.sampler.indices, self.device, True, resident_limit)
        self._size = (int(store.images.shape[2]), int(store.images.shape[3]))
        self.unlabelled: SliceSampler | None = None
        self.views = unlabelled_views
        if unlabelled is not None:
            count = batch if unlabelled_batch is None else unlabelled_batch
            own_rows(count, "unlabelled_batch")
            # A seed of its own: two streams over the same slices must not walk in step.
            self.unlabelled = SliceSampler(unlabelled, count, stream_seed(seed, "unlabelled"))
            self.extra = SliceSource(store, self.unlabelled.indices, self.device, False, resident_limit)

    def batch(self, step: int) -> SegmentationBatch:
        """This process's part of the batch of a step, from 0."""
        chosen, views, labels = self._stream(self.sampler, self.source, step, "augment", 1)
        extra: tuple[Tensor, ...] = ()
        others = None
        if self.unlabelled is not None:
            others, extra, _ = self._stream(self.unlabelled, self.extra, step, "augment unlabelled", self.views)
        if labels is None:
            raise RuntimeError("the labelled stream was opened without masks")
        return SegmentationBatch(
            images=views[0],
            labels=labels.long(),
            slices=torch.from_numpy(chosen.copy()).to(self.device),
            step=step,
            total_steps=self.total_steps,
            generator=torch_stream(self.seed, "step", step),
            unlabelled=extra[0] if extra else None,
            unlabelled_again=extra[1] if len(extra) > 1 else None,
            unlabelled_slices=None if others is None else torch.from_numpy(others.copy()).to(self.device),
        )

    def _stream(
        self, sampler: Sampler, source: SliceSource, step: int, purpose: str, views: int
    ) -> tuple[NDArray[np.int64], tuple[Tensor, ...], Tensor | None]:
        joined = sampler.batch(step)
        rows = own_rows(len(joined), "batch")
        chosen = joined[rows.kept]
        images, masks = source.read(chosen)
        drawn: list[Transform | None] = [None] * views
        if self.augmenter is not None:
            # The first view is the same whether or not there is a second.
            first, *more = (
                self.augmenter.sample(rows.count, self._size, torch_stream(self.seed, purpose, step, *again))[rows.kept]
                for again in ((), *((view,) for view in range(1, views)))
            )
            drawn = [first, *(replace(other, matrices=first.matrices, control=first.control) for other in more)]
        made = [_view(self.augmenter, images, transform, masks) for transform in drawn]
        return chosen, tuple(view for view, _ in made), made[0][1]
