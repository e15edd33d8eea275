"""Percentiles of a whole volume without a sorted copy of it: two passes that count, then NumPy's interpolation.

``numpy.percentile`` partitions a copy. Here the bits of the floating-point numbers, put in order, are counted by their
upper half, then, where a wanted rank falls, by their lower half: what is found is the very same number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16
_HALF = 1 << 16


def percentiles(values: NDArray[np.float32], percents: Sequence[float], above: float | None = None) -> list[float]:
    """What ``numpy.percentile(values, percents)`` says, linear between neighbours, to the bit.

    Args:
        values: float32 of any shape, finite; a contiguous array is not copied.
        percents: 0 to 100.
        above: Where given, only values above it count.

    Raises:
        ValueError: If there are no such values.

    Example:
        >>> percentiles(np.array([4, 1, 3, 2], dtype=np.float32), (50, 100))
        [2.5, 4.0]
    """
    flat = values.reshape(-1)
    upper = np.zeros(_HALF, dtype=np.int64)
    for keys in _keys(flat, above):
        upper += np.bincount(keys >> np.uint32(16), minlength=_HALF)
    count = int(upper.sum())
    if not count:
        raise ValueError("there are no values to take percentiles of")
    places = np.true_divide(np.asarray(percents, dtype=np.float64), np.float32(100)) * (count - 1)
    before = np.floor(places).astype(np.int64)
    after = np.minimum(before + 1, count - 1)
    ranked = _at_ranks(flat, above, upper, sorted({*before.tolist(), *after.tolist()}))
    low = np.array([ranked[rank] for rank in before.tolist()], dtype=np.float32)
    high = np.array([ranked[rank] for rank in after.tolist()], dtype=np.float32)
    return [float(value) for value in _between(low, high, places - before)]


def _at_ranks(
    flat: NDArray[np.float32], above: float | None, upper: NDArray[np.int64], ranks: Sequence[int]
) -> dict[int, float]:
    """The values that have these ranks, from 0, in order."""
    ends = np.cumsum(upper)
    halves = {rank: int(np.searchsorted(ends, rank, side="right")) for rank in ranks}
    lower = {half: np.zeros(_HALF, dtype=np.int64) for half in set(halves.values())}
    for keys in _keys(flat, above):
        top = keys >> np.uint32(16)
        for half, counts in lower.items():
            inside = keys[top == half]
            if inside.size:
                lower[half] = counts + np.bincount(inside & np.uint32(_HALF - 1), minlength=_HALF)
    found = {}
    for rank, half in halves.items():
        within = rank - int(ends[half] - upper[half])
        rest = int(np.searchsorted(np.cumsum(lower[half]), within, side="right"))
        found[rank] = _number(half << 16 | rest)
    return found


def _keys(flat: NDArray[np.float32], above: float | None) -> Iterator[NDArray[np.uint32]]:
    """Whole numbers in the order of the values, block by block."""
    for first in range(0, flat.size, _BLOCK):
        block = flat[first : first + _BLOCK]
        if above is not None:
            block = block[block > above]
        # Both zeros are one number.
        bits = (block + np.float32(0)).view(np.uint32)
        yield np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))


def _number(key: int) -> float:
    bits = key ^ (1 << 31) if key >> 31 else ~key & 0xFFFFFFFF
    return float(np.array([bits], dtype=np.uint32).view(np.float32)[0])


def _between(low: NDArray[np.float32], high: NDArray[np.float32], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """As NumPy has it: from the nearer of the two."""
    apart = np.subtract(high, low)
    return np.where(share >= 0.5, high - apart * (1 - share), low + apart * share)
