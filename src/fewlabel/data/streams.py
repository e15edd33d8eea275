"""The two streams of a fine-tuning batch, labelled and unlabelled, of slices or patches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.rng import stream_seed, torch_stream
from fewlabel.data.augment import Augmenter, Transform
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.batch import SegmentationBatch
from fewlabel.data.batch_source import RESIDENT_LIMIT, SliceSource, class_ids, labelled_slices, own_rows
from fewlabel.data.label_based_augmentation import variants_of
from fewlabel.data.sampling import SliceSampler
from fewlabel.data.store import PreparedStore


@dataclass(frozen=True)
class Stream:
    """Where a stream's slices are read, what draws its rows, what its random numbers are for, views of each row.

    The first view of a row is weak where ``weak`` says so: geometry alone, intensities as they are.
    """

    source: SliceSource
    sampler: SliceSampler
    purpose: str
    views: int
    weak: bool


StreamT = TypeVar("StreamT", bound=Stream)


class SegmentationLoader(ABC, Generic[StreamT]):
    """Labelled rows with their masks, and unlabelled ones for regimes that use them.

    Args:
        store: Prepared store.
        indices: Store indices of the labelled slices.
        augment: What is done to the rows; None takes them as they are.
        batch: Labelled rows of the joined batch.
        total_steps: Length of the run in steps.
        seed: Seed of batches, augmentation and the batch's generator.
        device: Training device.
        unlabelled: Store indices of slices whose labels are not read, or None.
        unlabelled_batch: Unlabelled rows of the joined batch; as many as labelled ones by default.
        unlabelled_views: 2 or more for further views of each unlabelled row, of the same geometry.
        weak_view: Whether the first view of an unlabelled row keeps the intensities of its slice.
        metadata: Meta labels of unlabelled rows that batches bring.
        size: (height, width) of augmented rows, at most that of the slices; None for whole slices.
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
        weak_view: bool = False,
        metadata: Sequence[str] = (),
        size: tuple[int, int] | None = None,
        resident_limit: int = RESIDENT_LIMIT,
    ) -> None:
        self.store = store
        self.augmenter = None if augment is None else Augmenter(augment)
        self.seed = seed
        self.total_steps = total_steps
        self.device = torch.device(device)
        self._heights = store.slices["height_fraction"].to_numpy(dtype=np.float32)
        self._size = (int(store.images.shape[2]), int(store.images.shape[3]))
        self._view = size
        self._metadata = tuple(metadata)
        own_rows(batch, "batch")
        source = self._source(labelled_slices(store, indices), masks=True, resident_limit=resident_limit)
        self.labelled = self._stream(source, batch, seed, "", 1, weak=False)
        self.variants = (
            None if augment is None else variants_of(store, source.drawn, augment, seed=seed, device=self.device)
        )
        self.unlabelled: StreamT | None = None
        if unlabelled is not None:
            count = batch if unlabelled_batch is None else unlabelled_batch
            own_rows(count, "unlabelled_batch")
            others = np.unique(np.asarray(unlabelled, dtype=np.int64))
            source = self._source(others, masks=False, resident_limit=resident_limit)
            # A seed of its own: two streams over the same slices must not walk in step.
            own_seed = stream_seed(seed, "unlabelled")
            self.unlabelled = self._stream(source, count, own_seed, " unlabelled", unlabelled_views, weak_view)

    def batch(self, step: int) -> SegmentationBatch:
        """This process's part of the batch of a step, from 0."""
        slices, views, labels = self._rows(self.labelled, step)
        if labels is None:
            raise RuntimeError("the labelled stream was opened without masks")
        others: Tensor | None = None
        extra: tuple[Tensor, ...] = ()
        if self.unlabelled is not None:
            others, extra, _ = self._rows(self.unlabelled, step)
        return SegmentationBatch(
            images=views[0],
            labels=labels.long(),
            slices=slices,
            step=step,
            total_steps=self.total_steps,
            generator=torch_stream(self.seed, "step", step),
            unlabelled=extra[0] if extra else None,
            unlabelled_again=extra[1:],
            unlabelled_slices=others,
            unlabelled_positions=None if others is None else self._positions(others),
            unlabelled_metadata=None if others is None or not self._metadata else self._class_ids(others),
        )

    def _class_ids(self, slices: Tensor) -> dict[str, Tensor]:
        """Of store slices, under the meta labels that were asked for."""
        return class_ids(self.store, self._metadata, slices.cpu().numpy(), self.device)

    def _positions(self, slices: Tensor) -> Tensor:
        """Heights of store slices along the slice axis, in (0, 1)."""
        return torch.from_numpy(self._heights[slices.cpu().numpy()]).to(self.device)

    def _source(self, drawn: NDArray[np.int64], *, masks: bool, resident_limit: int) -> SliceSource:
        """Where slices to be drawn are read, and those shown beside them."""
        return SliceSource(self.store, self._shown(drawn), self.device, masks, resident_limit, drawn)

    def _shown(self, drawn: NDArray[np.int64]) -> NDArray[np.int64]:
        """Store indices of all slices that rows show where these are drawn; ascending."""
        return drawn

    @abstractmethod
    def _stream(self, source: SliceSource, count: int, seed: int, purpose: str, views: int, weak: bool) -> StreamT:
        """The stream over the drawn slices of a source, ``count`` rows to a joined batch."""

    @abstractmethod
    def _rows(self, stream: StreamT, step: int) -> tuple[Tensor, tuple[Tensor, ...], Tensor | None]:
        """Store slices (n,), views (n, channels, *space) and masks (n, *space) of this process's rows."""

    def _transforms(
        self, stream: StreamT, step: int, count: int, focus: Tensor | None = None
    ) -> list[Transform | None]:
        """One of the joined batch for each view; they share their geometry.

        Args:
            stream: The stream.
            step: Number of the step.
            count: Rows of the joined batch.
            focus: (count, 2) source pixel (x, y) that a row is about, NaN for anywhere; None for anywhere.
        """
        if self.augmenter is None:
            return [None] * stream.views
        purpose = f"augment{stream.purpose}"
        # The first view is the same whether or not there is a second.
        first, *more = (
            self.augmenter.sample(
                count, self._size, torch_stream(self.seed, purpose, step, *extra), view=self._view, focus=focus
            )
            for extra in ((), *((view,) for view in range(1, stream.views)))
        )
        more = [replace(other, matrices=first.matrices, control=first.control) for other in more]
        return [first.geometry() if stream.weak else first, *more]
