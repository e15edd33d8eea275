"""Where the labels of a mask lie, and how wide their structures are: what a pixel grid is chosen by."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fewlabel.data.voxel_counts import counts_of, value_counts

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
    values = np.array([value for value in value_counts(part) if value], dtype=part.dtype)
    numbers = _numbered(part, values)
    voxels = counts_of(numbers, len(values) + 1)
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


def _numbered(part: NDArray[np.integer[Any]], values: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """The places of values, ascending and none of them 0, from 1, with a border of 0, which is the background."""
    kind: type[np.integer[Any]] = np.uint8 if len(values) < 255 else np.int32
    numbers = np.zeros([side + 2 for side in part.shape], dtype=kind)
    for inner, plane in zip(numbers[1:-1, 1:-1, 1:-1], part, strict=True):
        inner[...] = np.where(plane == 0, 0, np.searchsorted(values, plane) + 1)
    return numbers


def _borders(numbers: NDArray[np.integer[Any]], axis: int, count: int) -> NDArray[np.int64]:
    """How often each number begins or ends along an axis."""
    pairs: Iterable[tuple[Any, Any]] = pairwise(numbers)
    if axis:
        lines = (np.moveaxis(plane, axis - 1, 0) for plane in numbers)
        pairs = ((each[:-1], each[1:]) for each in lines)
    crossed = np.zeros(count, dtype=np.int64)
    for here, there in pairs:
        differ = here != there
        crossed += np.bincount(here[differ], minlength=count) + np.bincount(there[differ], minlength=count)
    return crossed
