"""Axes that are not at right angles: the nearest upright grid, and the way there and back.

A tilted gantry, or a chain of registrations, leaves files whose axes are sheared. Everything else here works on grids
at right angles, so a scan with a small shear is laid onto one of the same shape, voxel size and centre, its axes turned
by the rotation nearest to the file's (the polar factor of their unit vectors). Below a tenth of a voxel at the corners
the voxels stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from fewlabel.data.io.geometry import Geometry

#: Angle in degrees by which two axes may be off a right angle; ITK itself accepts a hundredth.
MOST_DEGREES = 2.0
#: Cosine between two axes up to which they count as being at right angles.
LEAST_COSINE = 2.5e-4
_TENTH = 0.1
_FILE_AXES = ("x", "y", "z")


def off_right_angle(steps: NDArray[np.float64]) -> tuple[float, str]:
    """The largest angle in degrees by which two axes are off a right angle, and which two: ``y and z``.

    Args:
        steps: (3, 3); column j is the step along file axis j.
    """
    units = steps / np.linalg.norm(steps, axis=0)
    cosines = np.abs(units.T @ units - np.eye(3))
    first, second = sorted(divmod(int(np.argmax(cosines)), 3))
    return float(np.degrees(np.arcsin(min(1.0, cosines.max())))), f"{_FILE_AXES[first]} and {_FILE_AXES[second]}"


def upright(
    steps: NDArray[np.float64], origin: NDArray[np.float64], sides: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction (3, 3), one unit vector per column, and origin of the nearest grid at right angles.

    Args:
        steps: As for :func:`off_right_angle`.
        origin: Place of the first voxel.
        sides: Voxels along the file axes.
    """
    sizes = np.linalg.norm(steps, axis=0)
    left, _, right = np.linalg.svd(steps / sizes)
    direction = left @ right
    middle = (np.asarray(sides, dtype=np.float64) - 1) / 2
    return direction, origin + steps @ middle - (direction * sizes) @ middle


def moved_voxels(geometry: Geometry) -> float:
    """How far, in voxels of the file, a corner lies from where the upright grid has it."""
    matrix, offset = _between(geometry)
    ends = _ends(geometry.shape[::-1])
    return float(np.abs(ends @ matrix.T + offset - ends).max())


def straighten(array: NDArray[Any], geometry: Geometry, *, mask: bool) -> NDArray[Any]:
    """Bring an array from the grid of its file onto the upright one.

    Args:
        array: (..., z, y, x) as stored.
        geometry: Of the file.
        mask: Whether the values are classes: then the nearest voxel counts, and 0 lies beyond the edge.
    """
    if not needs_resampling(geometry):
        return array
    matrix, offset = _between(geometry)
    return _resampled(array, matrix, offset, order=0 if mask else 1, mode="constant" if mask else "nearest")


def put_back(array: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """Bring an array from the upright grid back onto that of the file; 0 lies beyond the edge.

    Args:
        array: (..., z, y, x); whole numbers are classes, of which the nearest counts.
        geometry: Of the file.
    """
    if not needs_resampling(geometry):
        return array
    matrix, offset = _between(geometry)
    inverse = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    order: Literal[0, 1] = 1 if array.dtype.kind == "f" else 0
    return _resampled(array, inverse, -inverse @ offset, order=order, mode="constant")


def needs_resampling(geometry: Geometry) -> bool:
    """Whether the voxels of a file lie elsewhere than on the grid at right angles."""
    return bool(geometry.exact) and moved_voxels(geometry) >= _TENTH


def _between(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Matrix and offset from places of the upright grid to those of the file, both (x, y, z) in voxels."""
    steps, origin = _exact(geometry)
    direction = np.asarray(geometry.direction).reshape(3, 3) * np.asarray(geometry.spacing[::-1])
    inverse = np.linalg.inv(steps)
    return inverse @ direction, inverse @ (np.asarray(geometry.origin) - origin)


def _exact(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    exact = np.asarray(geometry.exact, dtype=np.float64)
    return exact[:9].reshape(3, 3), exact[9:]


def _ends(sides: Sequence[int]) -> NDArray[np.float64]:
    corners = np.meshgrid(*[(0.0, side - 1.0) for side in sides], indexing="ij")
    ends: NDArray[np.float64] = np.stack(corners, -1).reshape(8, 3)
    return ends


def _resampled(
    array: NDArray[Any],
    matrix: NDArray[np.float64],
    offset: NDArray[np.float64],
    *,
    order: Literal[0, 1],
    mode: Literal["constant", "nearest"],
) -> NDArray[Any]:
    volumes = array.reshape(-1, *array.shape[-3:])
    out = np.empty_like(volumes)
    for volume, target in zip(volumes, out, strict=True):
        ndimage.affine_transform(
            volume, matrix[::-1, ::-1], offset[::-1], output=target, order=order, mode=mode, cval=0.0, prefilter=False
        )
    return out.reshape(array.shape)
