"""Padding of scans: voxels that no scanner measured, at a value far below all others, such as -3024 in CT."""

from __future__ import annotations

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
    rest = channel.ravel()
    while len(values) < _MOST_VALUES and rest.size:
        lowest = float(rest.min())
        if lowest >= 0:
            break
        above = rest[rest > lowest]
        if not above.size or rest.size - above.size < _SHARE * channel.size:
            break
        low, high = np.percentile(above[:: max(1, above.size // _SAMPLE)], _PERCENTILES)
        if low - lowest < max(high - low, 1e-6) and not (lowest < _AIR and low - lowest >= _APART):
            break
        values.append(lowest)
        rest = above
    return tuple(values)
