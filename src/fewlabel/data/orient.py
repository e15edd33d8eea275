"""Orientation: which file axis is the slice axis, and which way round every scan of a data set is laid.

Axes are only permuted and flipped, so the way back is exact. Scans need not be axial: cardiac short-axis stacks
lie oblique, and snapping each to the nearest patient axis would turn some upside down against the others. So one
frame, that of the most central scan, is the reference, and every scan is laid as close to it as it can be.

The plane of the slices is one for the whole data set (:mod:`fewlabel.data.slice_plane`): a scan with slices thinner
than its pixels is cut as all others are. Plans made before that was so say ``auto`` and cut each scan across its own
thickest axis; plans made since say ``nearest``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.io.geometry import Geometry

#: Names of the file axes in the order of the array.
FILE_AXES = ("z", "y", "x")
#: How plans call it that every scan is cut along the slices of their frame.
NEAREST = "nearest"
#: Voxel sizes that differ by less than this factor are alike.
ALIKE = 1.05
#: A scan this much coarser across its slices than within is cut so, if they lie no further from the plane than this.
_CLEARLY_THICK, _WITHIN = 2.0, 0.5
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True)
class Orientation:
    """How an array (z, y, x) becomes (slice, row, column).

    Attributes:
        axes: Array axis that becomes slice, row and column.
        flips: Whether each of them is reversed, after the permutation.
    """

    axes: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    def apply(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Permute and flip the last three axes."""
        lead = array.ndim - 3
        moved = array.transpose(*range(lead), *(lead + axis for axis in self.axes))
        laid: NDArray[_Scalar] = moved[self._reversed()]
        return laid

    def undo(self, array: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """The exact inverse of :meth:`apply`."""
        lead = array.ndim - 3
        flipped: NDArray[_Scalar] = array[self._reversed()]
        back = np.argsort(self.axes)
        return flipped.transpose(*range(lead), *(lead + int(axis) for axis in back))

    def _reversed(self) -> tuple[Any, ...]:
        return (..., *(slice(None, None, -1 if flip else 1) for flip in self.flips))


def slice_axis(geometry: Geometry, choice: str = "auto") -> int:
    """Array axis (0 z, 1 y, 2 x) across the slices.

    Args:
        geometry: The scan's.
        choice: ``x``, ``y`` or ``z`` of the file, or ``auto``: the axis with the largest spacing; where two are within
            5 %, the one of them nearest to the patient's feet-head axis, and the file's last if that ties too.
    """
    if choice != "auto":
        return FILE_AXES.index(choice)
    if geometry.shape[0] == 1:
        return 0
    spacing = np.asarray(geometry.spacing)
    tied = np.flatnonzero(spacing * ALIKE >= spacing.max())
    upright = np.abs(geometry.axes()[tied, 2])
    return int(tied[int(np.argmax(np.round(upright, 3)))])


def thick_axis(geometry: Geometry) -> int | None:
    """The array axis whose voxels are larger than along both others by more than 5 %; None where there is none."""
    spacing = np.asarray(geometry.spacing)
    thickest = int(spacing.argmax())
    others = np.delete(spacing, thickest)
    return thickest if spacing[thickest] > ALIKE * others.max() else None


def axis_along(geometry: Geometry, direction: NDArray[np.float64]) -> int:
    """Array axis nearest to the slice direction of a data set.

    An oblique scan, more than twice as coarse across its slices as within them, is cut along these slices as long as
    its slice direction is within 60 degrees of the data set's: other cuts of it would be of no use.

    Args:
        geometry: The scan's; one slice is cut as it is.
        direction: Unit vector (3,) across the slices, in patient axes.
    """
    if geometry.shape[0] == 1:
        return 0
    aligned = np.abs(geometry.axes() @ np.asarray(direction, dtype=np.float64))
    thick = thick_axis(geometry)
    if thick is not None and aligned[thick] >= _WITHIN - 1e-6:
        spacing = geometry.spacing
        if spacing[thick] > _CLEARLY_THICK * max(step for axis, step in enumerate(spacing) if axis != thick):
            return thick
    # Rounded, so that ties go to the first axis on any machine.
    return int(np.argmax(np.round(aligned, 6)))


def upright_frame(geometry: Geometry, axis: int) -> NDArray[np.float64]:
    """Unit vectors (3, 3) of slice, row and column, each pointing along the patient axis it is nearest to.

    Columns follow the lower of the two in-plane patient axes (left before posterior before superior).
    """
    axes = geometry.axes()
    order = [axis, *(other for other in range(3) if other != axis)]
    permutations = [(a, b, c) for a in range(3) for b in range(3) for c in range(3) if len({a, b, c}) == 3]
    best = max(permutations, key=lambda p: sum(abs(axes[order[i], p[i]]) for i in range(3)))
    # Prefer the slice axis first, then the in-plane axis with the higher patient axis as rows.
    rows_first = best[1] > best[2]
    order_of_axes = order if rows_first else [order[0], order[2], order[1]]
    nearest = best if rows_first else (best[0], best[2], best[1])
    frame = axes[order_of_axes]
    signs = np.array([1.0 if frame[i, nearest[i]] >= 0 else -1.0 for i in range(3)])
    upright: NDArray[np.float64] = frame * signs[:, None]
    return upright


def orient_to(geometry: Geometry, frame: NDArray[np.float64], choice: str = "auto") -> Orientation:
    """How to lay a scan as close to a reference frame as permuting and flipping allow.

    Args:
        geometry: The scan's.
        frame: Reference unit vectors (3, 3) of slice, row and column.
        choice: As in :func:`slice_axis`, or ``nearest`` for the axis along the frame's slices, see :func:`axis_along`.
    """
    axis = axis_along(geometry, np.asarray(frame)[0]) if choice == NEAREST else slice_axis(geometry, choice)
    axes = geometry.axes()
    first, second = (other for other in range(3) if other != axis)
    cosines = axes @ np.asarray(frame, dtype=np.float64).T
    straight = abs(cosines[first, 1]) + abs(cosines[second, 2])
    crossed = abs(cosines[second, 1]) + abs(cosines[first, 2])
    # In file order (…, y, x) "first" is the row axis; keep that on a tie.
    order = (axis, first, second) if straight >= crossed - 1e-9 else (axis, second, first)
    flips = tuple(bool(cosines[order[i], i] < -1e-9) for i in range(3))
    return Orientation(order, (flips[0], flips[1], flips[2]))
