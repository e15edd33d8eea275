"""Polygons to masks: which pixels of a slice have their centre inside of closed contours."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray


def fill_contours(contours: Iterable[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels (rows, columns) whose centres lie inside of an odd number of polygons.

    So a contour within another is a hole, and a polygon that crosses itself, or enters a hole by a channel, is filled
    as drawn. A centre on an edge is inside where the inside lies towards higher columns or rows, so that neighbours
    share no pixel.

    Args:
        contours: Each (points, 2): column and row in pixels, centres at whole numbers; closed by itself.
        shape: (rows, columns) of the slice; what lies beyond it is cut off.

    Example:
        >>> square = np.array([[0.5, 0.5], [3.5, 0.5], [3.5, 2.5], [0.5, 2.5]])
        >>> fill_contours([square], (4, 5)).astype(int)
        array([[0, 0, 0, 0, 0],
               [0, 1, 1, 1, 0],
               [0, 1, 1, 1, 0],
               [0, 0, 0, 0, 0]])
    """
    rows, columns = shape
    # Each edge turns all pixels of a row inside out from where it crosses the row of their centres on.
    turns = np.zeros((rows, columns + 1), dtype=np.int64)
    for points in contours:
        ends = np.roll(points, -1, axis=0)
        for (x0, y0), (x1, y1) in zip(points.tolist(), ends.tolist(), strict=True):
            low, high = min(y0, y1), max(y0, y1)
            crossed = np.arange(max(0, np.ceil(low)), min(rows, np.ceil(high)), dtype=np.int64)
            if len(crossed):
                at = x0 + (crossed - y0) * ((x1 - x0) / (y1 - y0))
                np.add.at(turns, (crossed, np.clip(np.ceil(at), 0, columns).astype(np.int64)), 1)
    inside: NDArray[np.bool_] = np.cumsum(turns[:, :-1], axis=1) % 2 == 1
    return inside
