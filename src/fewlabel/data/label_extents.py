"""Where the labels of a mask lie, and how wide their structures are: what a pixel grid is chosen by."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class LabelShape:
    """The voxels of one label value in a mask; triples are along (z, y, x).

    Attributes:
        first: First voxel along each axis.
        last: Last one.
        voxels: How many there are.
        borders: Along each axis, how often one goes in or out of them; the mask's edge counts as outside.
    """

    first: Triple
    last: Triple
    voxels: int
    borders: Triple

    def thickness(self, rows: tuple[int, float], columns: tuple[int, float]) -> float:
        """How thick the structure is within its slices: twice its area by its perimeter, in mm.

        That is the width of a strip or of a ring's wall, and the radius of a disc. The perimeter is that of smooth
        outlines (Cauchy and Crofton): faces overstate it by 4/π.

        Args:
            rows: Array axis that runs down a slice, and its voxel size in mm.
            columns: The same of the axis that runs across.
        """
        (down, high), (across, wide) = rows, columns
        perimeter = math.pi / 4 * (self.borders[down] * wide + self.borders[across] * high)
        # Voxels without size are told as a fault elsewhere.
        return 2 * self.voxels * high * wide / perimeter if perimeter else 0.0


def label_shapes(mask: NDArray[np.integer[Any]]) -> dict[int, LabelShape]:
    """The shape of each value but 0 in a mask (z, y, x)."""
    inside = [np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    if not inside[0].size:
        return {}
    start = [int(shapes[0]) for shapes in inside]
    part = mask[tuple(slice(shapes[0], shapes[-1] + 1) for shapes in inside)]
    values = np.unique(part)
    values = values[values != 0]
    # Numbered from 1 with a border of 0, which is the background.
    numbers = np.pad(np.where(part == 0, 0, np.searchsorted(values, part) + 1).astype(np.int32), 1)
    voxels = np.bincount(numbers.ravel(), minlength=len(values) + 1)
    borders = [_borders(numbers, axis, len(values) + 1) for axis in range(3)]
    shapes: dict[int, LabelShape] = {}
    for index, box in enumerate(ndimage.find_objects(numbers), start=1):
        first = [start[axis] + box[axis].start - 1 for axis in range(3)]
        last = [start[axis] + box[axis].stop - 2 for axis in range(3)]
        crossings = [int(borders[axis][index]) for axis in range(3)]
        shapes[int(values[index - 1])] = LabelShape(
            (first[0], first[1], first[2]),
            (last[0], last[1], last[2]),
            int(voxels[index]),
            (crossings[0], crossings[1], crossings[2]),
        )
    return shapes


def _borders(numbers: NDArray[np.int32], axis: int, count: int) -> NDArray[np.int64]:
    """How often each number begins or ends along an axis."""
    lines = np.moveaxis(numbers, axis, 0)
    before, after = lines[:-1], lines[1:]
    differ = before != after
    return np.bincount(before[differ], minlength=count) + np.bincount(after[differ], minlength=count)
