"""Where batches come from: slices on the training device or on disk, and this process's rows of a joined batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.collective import rank, world_size
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.data.store import UNLABELLED, PreparedStore

#: Largest part of a store kept on the training device, in bytes; a bigger one is read from disk batch by batch.
RESIDENT_LIMIT = 2 * 1024**3


class SliceSource:
    """The slices that one sampler can draw, and those shown beside them, on the training device if they fit there.

    Args:
        store: Prepared store.
        indices: Ascending store indices.
        device: Training device.
        masks: Whether masks are needed.
        resident_limit: Bytes that may be kept on the device.
        drawn: Those of them that are drawn, ascending; the others are shown without a label, whose masks are not read.
            None for all.
    """

    def __init__(
        self,
        store: PreparedStore,
        indices: NDArray[np.int64],
        device: torch.device,
        masks: bool,
        resident_limit: int,
        drawn: NDArray[np.int64] | None = None,
    ) -> None:
        self.store = store
        self.indices = indices
        self.drawn = indices if drawn is None else drawn
        self.device = device
        self.masks = masks
        pixels = len(indices) * int(np.prod(store.images.shape[2:]))
        self.resident = pixels * (2 * store.images.shape[1] + masks) <= resident_limit
        if self.resident:
            self._images = torch.from_numpy(np.ascontiguousarray(store.images[indices])).to(device)
            self._labels = torch.from_numpy(self._masks(indices)).to(device) if masks else None

    def read(self, indices: NDArray[np.int64]) -> tuple[Tensor, Tensor | None]:
        """Images (n, channels, height, width) float32 and masks (n, height, width) uint8 or None, on the device."""
        if self.resident:
            rows = torch.from_numpy(np.searchsorted(self.indices, indices)).to(self.device)
            labels = None if self._labels is None else self._labels.index_select(0, rows)
            return self._images.index_select(0, rows).float(), labels
        images = torch.from_numpy(self.store.images[indices]).to(self.device).float()
        return images, torch.from_numpy(self._masks(indices)).to(self.device) if self.masks else None

    def _masks(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        """(n, height, width) masks of these slices, 255 for those that are not drawn."""
        known = np.isin(indices, self.drawn)
        if known.all():
            return np.ascontiguousarray(self.store.labels[indices])
        masks = np.full((len(indices), *self.store.labels.shape[1:]), UNLABELLED, np.uint8)
        masks[known] = self.store.labels[indices[known]]
        return masks


def labelled_slices(store: PreparedStore, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same store indices, ascending and each once, all of which have a mask.

    Raises:
        DataError: If some have none; their cases are named.
    """
    indices = np.unique(np.asarray(indices, dtype=np.int64))
    table = store.slices.iloc[indices]
    bare = sorted(table.loc[~table["labelled"].to_numpy(dtype=bool), "case"].unique())
    if bare:
        fault = Fault(f"a labelled slice needs a mask, but there is none for {', '.join(bare)}", "labelled subjects")
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
        problem = f"must be a positive multiple of the number of processes, {world_size()}, not {count}"
        near = max(world_size(), count - count % world_size())
        raise SettingsError("These settings are not valid:", [Fault(problem, setting, f"Try {setting}={near}")])
    share = count // world_size()
    return Rows(count, rank() * share, (rank() + 1) * share)


def class_ids(
    store: PreparedStore, labels: Iterable[str], indices: NDArray[np.int64], device: torch.device
) -> dict[str, Tensor]:
    """Meta label → (n,) int64 class ids of store slices; one without a label has an id that no other slice has.

    Store indices make such ids unique over all processes without exchanging a word.
    """
    ids = {}
    for name in labels:
        codes = store.slices[f"meta_{name}"].to_numpy(dtype=np.int64)[indices]
        ids[name] = torch.from_numpy(np.where(codes < 0, store.meta_labels[name] + indices, codes)).to(device)
    return ids
