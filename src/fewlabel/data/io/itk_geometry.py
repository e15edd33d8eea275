"""Where the voxels of a file lie, from what SimpleITK or the header of a picture says, with what cannot be refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.file_integrity import Examined
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.io.picture_header import Picture
from fewlabel.data.io.shear import LEAST_COSINE, MOST_DEGREES, moved_voxels, needs_resampling, off_right_angle, upright
from fewlabel.data.io.voxel_size import size_problem

_RESAMPLE = (
    "Resample scan and mask onto a grid at right angles, with nibabel.processing.resample_to_output for example "
    "(order=0 for masks)"
)


def picture_geometry(picture: Picture) -> Geometry:
    """Of a picture, which knows no millimetres: 1 mm, upright."""
    return Geometry(
        (picture.pages, *picture.shown),
        (1.0, 1.0, 1.0),
        (0.0, 0.0, 0.0),
        tuple(np.eye(3).ravel().tolist()),
        picture.channels,
        notes=picture.notes,
    )


def geometry_of(path: Path, source: Any, facts: Examined) -> Geometry:
    """Of a file.

    Args:
        path: The file.
        source: A SimpleITK image, or what has read the header of one.
        facts: Of the bytes of the file.

    Raises:
        DataError: If it is not a 2D to 4D image, a voxel cannot have its size, or the axes are too far from right
            angles.
    """
    size = [int(side) for side in source.GetSize()]
    n = len(size)
    if n not in {2, 3, 4}:
        remedy = "Save each point in time, or each channel, as an image of its own"
        fault = Fault(f"must be a 2D, 3D or 4D image, but has {n} axes", str(path), remedy)
        raise DataError("A scan cannot be used:", [fault])
    inner = min(n, 3)
    spacing = np.array((*source.GetSpacing(), 1.0)[:3])
    if facts.picture is not None and facts.picture.print_size:
        # Dots per inch of print are no size of what is shown.
        spacing[:2] = 1.0
    origin = np.array((*source.GetOrigin(), 0.0)[:3])
    matrix = np.eye(3)
    matrix[:inner, :inner] = np.asarray(source.GetDirection()).reshape(n, n)[:inner, :inner]
    _refuse(path, spacing, origin, matrix)
    components = _components(source) * (size[3] if n == 4 else 1)
    sides = (*size, 1)[:3]
    shape = (sides[2], sides[1], sides[0])
    notes = () if facts.picture is None else facts.picture.notes
    frames = size[3] if n == 4 else 1
    plain = Geometry(shape, _zyx(spacing), _three(origin), _flat(matrix), components, frames, (), notes, facts.blank)
    return squared(plain, str(path))


def squared(plain: Geometry, where: str) -> Geometry:
    """A geometry whose axes may be sheared, as that of the nearest grid at right angles, with a note that says so.

    Args:
        plain: With the unit vectors of its axes as they are.
        where: What a fault calls the file.

    Raises:
        DataError: If the axes are further than :data:`fewlabel.data.io.shear.MOST_DEGREES` from right angles.
    """
    spacing, origin = np.array(plain.spacing[::-1]), np.array(plain.origin)
    steps = np.array(plain.direction).reshape(3, 3) * spacing
    degrees, axes = off_right_angle(steps)
    if np.sin(np.radians(degrees)) <= LEAST_COSINE:
        return plain
    if degrees > MOST_DEGREES:
        problem = (
            f"its axes are sheared: {axes} are {degrees:.1f} degrees off a right angle, as with a tilted gantry, and "
            f"more than {MOST_DEGREES:g} degrees are not corrected"
        )
        raise DataError("A scan cannot be used:", [Fault(problem, where, _RESAMPLE)])
    direction, place = upright(steps, origin, plain.shape[::-1])
    kept = (*_flat(steps), *origin.tolist())
    geometry = replace(plain, origin=_three(place), direction=_flat(direction), exact=kept)
    done = "it is resampled onto a grid at right angles" if needs_resampling(geometry) else "voxels stay as they are"
    moved = moved_voxels(geometry)
    note = f"its axes {axes} are {degrees:.2g} degrees off a right angle, {moved:.2g} voxels at its corners: {done}"
    return replace(geometry, notes=(*plain.notes, note))


def _refuse(path: Path, spacing: NDArray[Any], origin: NDArray[Any], matrix: NDArray[Any]) -> None:
    problem = size_problem(spacing.tolist())
    if not problem and not (np.isfinite(origin).all() and np.isfinite(matrix).all()):
        problem = "its place in the patient holds numbers that are not finite"
    if not problem and abs(np.linalg.det(matrix)) < 1e-3:
        problem = "two of its axes run the same way"
    if problem:
        raise DataError("A scan cannot be used:", [Fault(problem, str(path), "Correct its header")])


def _components(source: Any) -> int:
    """Values per voxel: readers and images of SimpleITK name the same question differently."""
    count = getattr(source, "GetNumberOfComponentsPerPixel", None) or source.GetNumberOfComponents
    return int(count())


def _zyx(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return (z, y, x)


def _three(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return (x, y, z)


def _flat(matrix: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(value) for value in matrix.ravel())
