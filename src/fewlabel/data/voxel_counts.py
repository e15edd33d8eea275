"""How often values occur in a mask, counted block by block: NumPy's counting makes a copy in eight bytes a voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 17
_FEW = 1 << 16


def counts_of(indices: NDArray[np.integer[Any]], count: int) -> NDArray[np.int64]:
    """Voxels of each index from 0 on, (count,) or more where larger ones occur; what ``numpy.bincount`` says.

    Args:
        indices: Of any shape, none below 0.
        count: Indices there are at least.
    """
    flat = indices.reshape(-1)
    counts = np.zeros(count, dtype=np.int64)
    for first in range(0, flat.size, _BLOCK):
        block = np.bincount(flat[first : first + _BLOCK], minlength=len(counts))
        block[: len(counts)] += counts
        counts = block
    return counts


def value_counts(mask: NDArray[np.integer[Any]]) -> dict[int, int]:
    """Voxels of each value that occurs in a mask, the lowest value first."""
    flat = mask.reshape(-1)
    low, high = int(flat.min(initial=0)), int(flat.max(initial=0))
    if high - low >= _FEW:
        values, many = np.unique(flat, return_counts=True)
        return {int(value): int(count) for value, count in zip(values, many, strict=True)}
    counts = np.zeros(high - low + 1, dtype=np.int64)
    for first in range(0, flat.size, _BLOCK):
        # In eight bytes, so that no difference overflows.
        counts += np.bincount(flat[first : first + _BLOCK].astype(np.int64) - low, minlength=len(counts))
    return {int(index) + low: int(counts[index]) for index in np.flatnonzero(counts)}
