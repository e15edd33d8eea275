"""Where the voxels of a volume of DICOM slices lie, and what is wrong with how its slices follow each other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.dicom.splitting import Part, normal_of, offsets_of
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.io.itk_geometry import squared
from fewlabel.data.io.voxel_size import size_problem

#: How far, in distances between slices, one may lie from its place in an even row: more is a fault, or is said.
_FAULT, _NOTE = 0.1, 0.01
_EXPORT = "Export the series again with all its slices, or leave it out"
_STRAIGHTEN = "Give it as NIfTI made by dcm2niix, which corrects the tilt, or leave it out"
_MOST = 3


@dataclass(frozen=True)
class Layout:
    """Where the voxels lie, and every fault of that."""

    geometry: Geometry | None
    faults: tuple[Fault, ...] = ()


def lay_out(part: Part, where: str, notes: tuple[str, ...] = ()) -> Layout:
    """Where the voxels of a volume lie: rows along x, columns along y, slices along their normal.

    A note says of slices that are a little uneven, that nothing tells how large voxels are, and that axes are not at
    right angles, as with a tilted gantry; by more than :data:`fewlabel.data.io.shear.MOST_DEGREES` that is a fault.

    Args:
        part: The slices.
        where: What faults call the volume.
        notes: What else is unusual about it.
    """
    first = part.planes[0]
    rows, columns = first.shape
    shape = (len(part.planes), rows, columns)
    if part.doubled:
        places = ", ".join(f"{place:g}" for place in part.doubled[:_MOST])
        more = f" and {len(part.doubled) - _MOST} more places" if len(part.doubled) > _MOST else ""
        problem = f"has several slices at {places}{more} mm, and nothing in their headers tells them apart"
        return Layout(None, (Fault(problem, where, "Keep one slice of each place, or leave the series out"),))
    if first.position is None or first.orientation is None:
        # A projection: one picture, which lies nowhere.
        spacing = first.spacing or (1.0, 1.0)
        if problem := size_problem(spacing):
            return Layout(None, (Fault(problem, where, "Correct its header"),))
        upright = tuple(np.eye(3).ravel().tolist())
        known = first.spacing is not None
        sizes = (1.0, spacing[0], spacing[1])
        return Layout(Geometry(shape, sizes, (0.0, 0.0, 0.0), upright, notes=notes, spacing_known=known))
    faults, said = _row_faults(part, where)
    if first.spacing is None:
        faults.append(Fault("does not say how large its pixels are (PixelSpacing)", where, "Export it again"))
    if faults or first.spacing is None:
        return Layout(None, tuple(faults))
    return _placed(part, first.spacing, where, (*notes, *said))


def _placed(part: Part, spacing: tuple[float, ...], where: str, notes: tuple[str, ...]) -> Layout:
    first, last = part.planes[0], part.planes[-1]
    axes = np.array(first.orientation, dtype=np.float64).reshape(2, 3)
    origin = np.array(first.position, dtype=np.float64)
    if len(part.planes) > 1:
        step = (np.array(last.position, dtype=np.float64) - origin) / (len(part.planes) - 1)
    else:
        notes = notes if first.thickness else (*notes, "does not say how thick its only slice is: 1 mm is assumed")
        step = normal_of(first) * (first.thickness or 1.0)
    down, across = spacing
    steps = np.stack([axes[0] * across, axes[1] * down, step], axis=1)
    sizes = np.linalg.norm(steps, axis=0)
    if problem := size_problem(sizes.tolist()) or _axes_problem(axes, origin):
        return Layout(None, (Fault(problem, where, "Correct its header"),))
    rows, columns = first.shape
    plain = Geometry(
        (len(part.planes), rows, columns),
        (float(sizes[2]), float(sizes[1]), float(sizes[0])),
        (float(origin[0]), float(origin[1]), float(origin[2])),
        tuple((steps / sizes).ravel().tolist()),
        notes=notes,
    )
    try:
        return Layout(squared(plain, where))
    except DataError as error:
        return Layout(None, tuple(replace(fault, remedy=_STRAIGHTEN) for fault in error.faults))


def _axes_problem(axes: NDArray[np.float64], origin: NDArray[np.float64]) -> str:
    """What is wrong with the directions of rows and columns, or an empty text."""
    if not (np.isfinite(origin).all() and np.isfinite(axes).all()):
        return "its place in the patient holds numbers that are not finite"
    lengths = np.linalg.norm(axes, axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(float(axes[0] @ axes[1])) > 0.1:
        return "the directions of its rows and columns are no unit vectors at right angles (ImageOrientationPatient)"
    return ""


def _row_faults(part: Part, where: str) -> tuple[list[Fault], list[str]]:
    """What is wrong with the distances of slices: some are missing, or they are uneven; and what is a little uneven."""
    if len(part.planes) < 3:
        return [], []
    offsets = offsets_of(part.planes)
    steps = np.diff(offsets)
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    even = offsets[0] + np.arange(len(offsets)) * (offsets[-1] - offsets[0]) / (len(offsets) - 1)
    off = float(np.abs(offsets - even).max() / usual)
    if off <= _FAULT:
        said = f"its slices lie {steps.min():.4g} to {steps.max():.4g} mm apart: taken as {np.mean(steps):.4g} mm"
        return [], [said] if off > _NOTE else []
    missing = np.rint(steps / usual).astype(int) - 1
    if np.abs(steps / usual - np.rint(steps / usual)).max() < _FAULT and missing.min() >= 0 and missing.any():
        gaps = [f"{offsets[at]:g} and {offsets[at + 1]:g} mm" for at in np.flatnonzero(missing)]
        shown = "; ".join(gaps[:_MOST]) + (f" and {len(gaps) - _MOST} more gaps" if len(gaps) > _MOST else "")
        count = int(missing.sum())
        lost = f"{count} slice{'s' * (count > 1)} of {len(offsets) + count}"
        problem = f"lacks {lost}: between {shown} along their normal"
        return [Fault(problem, where, _EXPORT)], []
    problem = f"its slices are not evenly spaced: {steps.min():.4g} to {steps.max():.4g} mm apart"
    return [Fault(problem, where, "Leave it out, or resample it onto even slices and give that as NIfTI")], []
