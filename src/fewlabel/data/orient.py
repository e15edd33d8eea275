"""Orientation: which file axis is the slice axis, and which way round every scan of a data set is laid.

Axes are only permuted and flipped, so the way back is exact. Scans need not be axial: cardiac short-axis stacks
lie oblique, and snapping each to the nearest patient axis would turn some upside down against the others. So one
frame, that of the most central scan, is the reference, and every scan is laid as close to it as it can be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.io.volume import Geometry

#: Names of the file axes in the order of the array.
FILE_AXES = ("z", "y", "x")
_TIE = 1.05
_MOST_COMPARED = 256
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
    tied = np.flatnonzero(spacing * _TIE >= spacing.max())
    upright = np.abs(geometry.axes()[tied, 2])
    return int(tied[int(np.argmax(np.round(upright, 3)))])


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


def reference_frame(geometries: Sequence[Geometry], choice: str = "auto") -> NDArray[np.float64]:
    """The upright frame of the most central scan: the one whose axes agree best with all others'.

    Args:
        geometries: Of the scans that may decide (none of the test part); an even subset of 256 is compared.
        choice: As in :func:`slice_axis`.
    """
    if not geometries:
        return np.eye(3)[::-1].copy()
    step = max(1, len(geometries) // _MOST_COMPARED)
    frames = np.stack([upright_frame(g, slice_axis(g, choice)) for g in geometries[::step]])
    cosines = np.abs(np.einsum("iap,jbp->ijab", frames, frames))
    straight = cosines[:, :, 1, 1] + cosines[:, :, 2, 2]
    crossed = cosines[:, :, 1, 2] + cosines[:, :, 2, 1]
    agreement = (cosines[:, :, 0, 0] + np.maximum(straight, crossed)).sum(1)
    # Rounded so that equal frames give the first, on any machine.
    central: NDArray[np.float64] = frames[int(np.argmax(np.round(agreement, 6)))]
    return central


def orient_to(geometry: Geometry, frame: NDArray[np.float64], choice: str = "auto") -> Orientation:
    """How to lay a scan as close to a reference frame as permuting and flipping allow.

    Args:
        geometry: The scan's.
        frame: Reference unit vectors (3, 3) of slice, row and column.
        choice: As in :func:`slice_axis`.
    """
    axis = slice_axis(geometry, choice)
    axes = geometry.axes()
    first, second = (other for other in range(3) if other != axis)
    cosines = axes @ np.asarray(frame, dtype=np.float64).T
    straight = abs(cosines[first, 1]) + abs(cosines[second, 2])
    crossed = abs(cosines[second, 1]) + abs(cosines[first, 2])
    # In file order (…, y, x) "first" is the row axis; keep that on a tie.
    order = (axis, first, second) if straight >= crossed - 1e-9 else (axis, second, first)
    flips = tuple(bool(cosines[order[i], i] < -1e-9) for i in range(3))
    return Orientation(order, (flips[0], flips[1], flips[2]))
