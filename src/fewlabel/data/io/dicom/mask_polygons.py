"""Masks to polygons: the edges of the pixels of a slice, one closed polygon for each piece, holes and all."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_Corner = tuple[int, int]


def polygons_of(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """One polygon for each piece of a mask whose pixels share edges, along the edges of its pixels.

    So a polygon has the area of its pixels, and :func:`fewlabel.data.io.dicom.contours.fill_contours` gives the mask
    back. A hole is part of the polygon around it, by a channel of no width that runs between two rows of pixels, as the
    DICOM standard has it for ``CLOSED_PLANAR`` (PS3.3, C.8.8.6.3, keyhole).

    Args:
        mask: (rows, columns) of a slice.

    Returns:
        Each (points, 2): column and row in pixels, centres at whole numbers; closed by itself, corners only.

    Example:
        >>> polygons_of(np.array([[0, 1, 1], [0, 0, 0]], dtype=bool))[0].tolist()
        [[0.5, -0.5], [2.5, -0.5], [2.5, 0.5], [0.5, 0.5]]
    """
    numbers, _ = ndimage.label(mask)
    polygons = []
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        rows, columns = box
        loops = _loops(numbers[box] == number)
        corners = np.array(_straight(_joined(loops)), dtype=np.float64)
        polygons.append(corners + np.array([columns.start - 0.5, rows.start - 0.5]))
    return polygons


def _loops(piece: NDArray[np.bool_]) -> list[list[_Corner]]:
    """The closed paths around a piece, corner by corner as (column, row), the piece on the right; the outer one first.

    Where two pixels of the piece touch at a corner alone, the path turns right, to stay with its own pixel: the outer
    path goes around all of the piece, and every other around a hole.
    """
    padded = np.pad(piece, 1)
    steps: dict[_Corner, list[_Corner]] = defaultdict(list)
    # Neighbour above, right, below, left → the edge to it, from its first corner to its second.
    for (down, across), (first, second) in {
        (-1, 0): ((0, 0), (1, 0)),
        (0, 1): ((1, 0), (1, 1)),
        (1, 0): ((1, 1), (0, 1)),
        (0, -1): ((0, 1), (0, 0)),
    }.items():
        beyond = np.roll(padded, (-down, -across), axis=(0, 1))
        for row, column in np.argwhere(padded & ~beyond).tolist():
            start = (column - 1 + first[0], row - 1 + first[1])
            steps[start].append((column - 1 + second[0], row - 1 + second[1]))
    loops = []
    while steps:
        # A path comes by its leftmost corner once.
        start = min(steps)
        loop = [start]
        here, before = steps[start][0], start
        _take(steps, start, here)
        while here != start:
            loop.append(here)
            onward = max(steps[here], key=lambda corner: _turn(before, here, corner))
            _take(steps, here, onward)
            before, here = here, onward
        loops.append(loop)
    return loops


def _take(steps: dict[_Corner, list[_Corner]], start: _Corner, end: _Corner) -> None:
    steps[start].remove(end)
    if not steps[start]:
        del steps[start]


def _turn(before: _Corner, here: _Corner, onward: _Corner) -> int:
    """1 for a turn to the right as it is seen (rows run down), -1 to the left, 0 straight on."""
    (x0, y0), (x1, y1), (x2, y2) = before, here, onward
    return (x1 - x0) * (y2 - y1) - (y1 - y0) * (x2 - x1)


def _joined(loops: list[list[_Corner]]) -> list[_Corner]:
    """One path: each hole is entered and left by a channel to the left of its leftmost corner.

    Holes are taken from left to right, so that whatever a channel meets is part of the path already.
    """
    path, *holes = loops
    for hole in sorted(holes, key=min):
        at = hole.index(min(hole))
        place = {corner: index for index, corner in enumerate(path)}
        column, row = hole[at]
        channel = [(column, row)]
        while channel[-1] not in place:
            channel.append((channel[-1][0] - 1, row))
        met = place[channel[-1]]
        inward, outward = channel[-2::-1], channel[1:]
        path = [*path[: met + 1], *inward, *hole[at + 1 :], *hole[:at], *channel[:1], *outward, *path[met + 1 :]]
    return path


def _straight(path: list[_Corner]) -> list[_Corner]:
    """The corners at which a closed path turns, back on itself too."""
    around = zip([path[-1], *path[:-1]], path, [*path[1:], path[0]], strict=True)
    return [
        here for before, here, after in around
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1])
    ]  # fmt: skip
