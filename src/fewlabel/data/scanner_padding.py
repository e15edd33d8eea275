"""Padding of scans: voxels that no scanner measured, at a value far below all others, such as -3024 in CT."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Padding fills at least this share of a scan.
_SHARE = 0.01
#: The lowest value that scanners give for air; what lies below, and apart from the rest, was not measured.
_AIR, _APART = -1024, 100
#: Values that different programs pad one scan with.
_MOST_VALUES = 3
_SAMPLE = 1 << 18
_BLOCK = 1 << 17
_PERCENTILES = (1, 99)


def padding_values(channel: NDArray[np.floating[Any]]) -> tuple[float, ...]:
    """The values that a scan is padded with, the lowest first; empty for nearly all scans.

    A value counts as padding if it is the lowest, negative, and fills 1 % of the voxels, and if the first percentile of
    the others lies further above it than from their 99th; or, where it is below -1024, the lowest value of air in
    Hounsfield units, by 100 or more.

    Args:
        channel: Finite intensities, any shape.
    """
    values: list[float] = []
    flat = channel.reshape(-1)
    # Nothing is copied: what remains are the values above the last that counted.
    floor, count = -np.inf, flat.size
    while len(values) < _MOST_VALUES and count:
        lowest = float(min(block.min(initial=np.inf) for block in _above(flat, floor)))
        if lowest >= 0:
            break
        left = sum(block.size for block in _above(flat, lowest))
        if not left or count - left < _SHARE * channel.size:
            break
        low, high = np.percentile(_every(_above(flat, lowest), max(1, left // _SAMPLE)), _PERCENTILES)
        if low - lowest < max(high - low, 1e-6) and not (lowest < _AIR and low - lowest >= _APART):
            break
        values.append(lowest)
        floor, count = lowest, left
    return tuple(values)


def _above(flat: NDArray[np.floating[Any]], floor: float) -> Iterator[NDArray[np.floating[Any]]]:
    """The values above a floor in order, block by block."""
    for first in range(0, flat.size, _BLOCK):
        block = flat[first : first + _BLOCK]
        yield block if floor == -np.inf else block[block > floor]


def _every(blocks: Iterable[NDArray[np.floating[Any]]], step: int) -> NDArray[np.floating[Any]]:
    """The first of every ``step`` values of blocks that follow each other."""
    parts, passed = [], 0
    for block in blocks:
        parts.append(block[-passed % step :: step])
        passed += block.size
    return np.concatenate(parts)
