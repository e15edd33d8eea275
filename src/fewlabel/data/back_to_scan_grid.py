"""From the network's pixel grid back to the grid of a scan's file, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from fewlabel.data.preprocess import recorded_steps, slabs_of
from fewlabel.data.resample import resample_plane, row_sums


class Restoration:
    """The way back to the grid of a scan's file, slab by slab along the slices.

    Args:
        record: Of the scan, from :class:`~fewlabel.data.preprocess.ScanPreparation`.
    """

    def __init__(self, record: Mapping[str, Any]) -> None:
        self._orientation, rows, columns = recorded_steps(record)
        self._rows, self._columns = rows.backward(), columns.backward()
        self._outside = 1 - np.outer(row_sums(self._rows), row_sums(self._columns))
        self._shape = tuple(record["shape"])

    def probabilities(self, slab: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Class probabilities (classes, slices, height, width) with the rows and columns of the file's slices.

        Outside the crop the background, class 0, has probability 1; sums stay 1.
        """
        plane = self.values(slab)
        plane[0] += self._outside
        return plane

    def values(self, slab: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Values (..., slices, height, width) with the rows and columns of the file's slices; 0 outside the crop."""
        return resample_plane(np.asarray(slab, dtype=np.float32), self._rows, self._columns)

    def empty(self, dtype: DTypeLike, *lead: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """A new array (*lead, z, y, x) on the file's grid, and the same memory as (*lead, slices, rows, columns)."""
        whole = np.empty((*lead, *self._shape), dtype=dtype)
        return whole, self._orientation.apply(whole)


def restore_probabilities(probabilities: NDArray[np.floating[Any]], record: Mapping[str, Any]) -> NDArray[np.float32]:
    """Bring class probabilities back to the grid of the scan's file.

    Args:
        probabilities: (classes, slices, height, width); class 0 is the background.
        record: Of the scan, from :func:`~fewlabel.data.preprocess.prepare_volume`.

    Returns:
        (classes, z, y, x) float32. Outside the crop the background has probability 1; sums stay 1.
    """
    restoration = Restoration(record)
    whole, laid = restoration.empty(np.float32, len(probabilities))
    for at in slabs_of(probabilities.shape[1]):
        laid[:, at] = restoration.probabilities(probabilities[:, at])
    return whole
