"""One slicing plane for a data set: along which every scan is cut, its slices thick or thin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.io.geometry import Geometry
from fewlabel.data.orient import ALIKE, FILE_AXES, NEAREST, axis_along, orient_to, slice_axis, thick_axis, upright_frame

_MOST_COMPARED = 256
#: A scan's say is bounded: none outweighs more than a few others, however thick its slices.
_LARGEST_SAY = math.log(4)
_MOST_NAMED = 5


def reference_frame(geometries: Sequence[Geometry], choice: str = "auto") -> NDArray[np.float64]:
    """The upright frame of the most central scan: the one whose axes agree best with all others'.

    Args:
        geometries: Of the scans that may decide (none of the test part); an even subset of 256 is compared.
        choice: ``x``, ``y`` or ``z`` of each file, or ``auto``: all scans are cut across one direction in the patient,
            see :func:`slice_direction`.
    """
    if not geometries:
        return np.eye(3)[::-1].copy()
    step = max(1, len(geometries) // _MOST_COMPARED)
    compared = list(geometries[::step])
    if choice in ("auto", NEAREST):
        direction = slice_direction(compared)
        axes = [axis_along(geometry, direction) for geometry in compared]
    else:
        axes = [slice_axis(geometry, choice) for geometry in compared]
    frames = np.stack([upright_frame(geometry, axis) for geometry, axis in zip(compared, axes, strict=True)])
    cosines = np.abs(np.einsum("iap,jbp->ijab", frames, frames))
    straight = cosines[:, :, 1, 1] + cosines[:, :, 2, 2]
    crossed = cosines[:, :, 1, 2] + cosines[:, :, 2, 1]
    agreement = (cosines[:, :, 0, 0] + np.maximum(straight, crossed)).sum(1)
    # Rounded so that equal frames give the first, on any machine.
    central: NDArray[np.float64] = frames[int(np.argmax(np.round(agreement, 6)))]
    return central


def slice_direction(geometries: Sequence[Geometry]) -> NDArray[np.float64]:
    """The direction in the patient across which the scans are coarsest, all of them together.

    Each axis of each scan is a candidate. A scan speaks for a direction by the logarithm of the voxel size along its
    axis nearest to it over the larger of the other two: above 0 where its slices are thick, below 0 where they would be
    cut through. Slices thinner than their pixels speak neither for nor against, as long as the pixels are square: scans
    are made slice by slice. Where directions have equal sums, that wins which agrees best with what each scan would be
    cut across by itself: isotropic scans across the axis nearest to feet-head.

    Args:
        geometries: At least one.

    Returns:
        Unit vector (3,) in patient axes.
    """
    volumes = [geometry for geometry in geometries if geometry.shape[0] > 1] or list(geometries)
    axes = np.stack([geometry.axes() for geometry in volumes])
    says = np.stack([_says(geometry) for geometry in volumes])
    # The axis that each scan would be cut across by itself: of the best ones that nearest to feet-head.
    tilts = np.where(says >= says.max(axis=1, keepdims=True) - 1e-6, np.round(np.abs(axes[:, :, 2]), 3), -1.0)
    own = axes[np.arange(len(volumes)), tilts.argmax(axis=1)]
    candidates = axes.reshape(-1, 3)
    nearest = np.round(np.abs(np.einsum("cp,gap->cga", candidates, axes)), 6).argmax(axis=2)
    totals = says[np.arange(len(volumes)), nearest].sum(axis=1)
    agreement = np.abs(candidates @ own.T).sum(axis=1)
    upright = np.abs(candidates[:, 2])
    keys = zip(
        np.round(totals, 6).tolist(), np.round(agreement, 6).tolist(), np.round(upright, 6).tolist(), strict=True
    )
    best = max(enumerate(keys), key=lambda item: (item[1], -item[0]))[0]
    direction: NDArray[np.float64] = candidates[best]
    return direction


def cut_otherwise(geometry: Geometry, frame: NDArray[np.float64], choice: str) -> str:
    """How a scan is cut where that is not across its thickest axis, in words; else empty.

    Args:
        geometry: The scan's.
        frame: Of the plan.
        choice: The plan's way to slice; only ``nearest`` can cut a scan otherwise.
    """
    thick = thick_axis(geometry)
    if choice != NEAREST or geometry.shape[0] == 1:
        return ""
    axis = orient_to(geometry, frame, choice).axes[0]
    spacing = geometry.spacing
    thin = all(step > ALIKE * spacing[axis] for at, step in enumerate(spacing) if at != axis)
    if thick == axis or (thick is None and not thin):
        return ""
    sizes = f"{spacing[axis]:.3g} mm of up to {max(spacing):.3g} mm"
    across = f"cut across file axis {FILE_AXES[axis]} like the other scans"
    return f"{across}, though its voxels are not largest there ({sizes})"


def plane_notes(named: Mapping[str, Geometry], frame: NDArray[np.float64], choice: str) -> list[str]:
    """One sentence on the scans that are cut otherwise than across their thickest axis; none without such a scan.

    Args:
        named: Case → geometry.
        frame: Of the plan.
        choice: The plan's way to slice.
    """
    odd = [name for name, geometry in named.items() if cut_otherwise(geometry, frame, choice)]
    if not odd:
        return []
    shown = ", ".join(odd[:_MOST_NAMED]) + (f" and {len(odd) - _MOST_NAMED} more" if len(odd) > _MOST_NAMED else "")
    return [
        f"all scans are cut along one plane, the data set's; in {len(odd)} of {len(named)} the voxels are not largest "
        f"across it: {shown}"
    ]


def _says(geometry: Geometry) -> NDArray[np.float64]:
    """What a scan says for each of its axes (z, y, x) as the one across the slices."""
    spacing = np.asarray(geometry.spacing, dtype=np.float64)
    says = np.zeros(3)
    for axis in range(3):
        low, high = sorted(np.delete(spacing, axis))
        if min(low, spacing[axis]) <= 0:
            continue
        say = math.log(spacing[axis] / high)
        square = high <= low * 1.001
        alike = abs(say) < math.log(ALIKE)
        says[axis] = 0.0 if alike or (say < 0 and square) else float(np.clip(say, -_LARGEST_SAY, _LARGEST_SAY))
    return says
