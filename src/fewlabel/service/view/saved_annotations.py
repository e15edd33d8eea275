"""A mask that was drawn in the browser, checked and written beside the run, never over the source."""

from __future__ import annotations

from typing import Any, Literal

import nibabel
import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.annotation_saving import NOTHING, Saved
from fewlabel.data.annotation_saving import save_annotation as save_values
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.preprocess import Plan
from fewlabel.service.view.viewed_scans import ViewedScan, ViewedScans
from fewlabel.service.view.volumes_for_browser import NOT_LOOKED_AT, affine_of, raw_values, received_indices

#: Which slices of a drawing count: all, or those that differ from what the drawing began with.
Slices = Literal["all", "drawn"]
#: The largest number in 8 bits.
_MOST = 255


def drawing_of(body: bytes, geometry: Geometry, plan: Plan) -> NDArray[np.uint8]:
    """The voxels (z, y, x) of a NIfTI file that the browser sent: class indices on the grid that it was given.

    Raises:
        DataError: If it is no such file, has another shape, place or kind of number, or holds what is no class.
    """
    try:
        image: Any = nibabel.Nifti1Image.from_bytes(body)
        voxels = np.asanyarray(image.dataobj)
    except Exception as error:  # whatever nibabel meets in bytes of anybody
        raise DataError(NOTHING, [Fault("what was sent is no NIfTI file")]) from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    wanted, faults = geometry.shape[::-1], []
    if voxels.shape != wanted:
        faults.append(Fault(f"the drawing has shape {voxels.shape}, but the scan has {wanted} (x, y, z)"))
    elif np.abs(image.affine - affine_of(geometry)).max() > 1e-3 * max(1.0, float(np.abs(image.affine).max())):
        faults.append(Fault("the drawing lies elsewhere than the scan"))
    if voxels.dtype.kind not in "iu":
        faults.append(Fault(f"the drawing holds numbers of the type {voxels.dtype}, not whole ones"))
    elif voxels.size and (voxels.min() < 0 or voxels.max() > _MOST):
        faults.append(Fault(f"the drawing holds {voxels.min()} to {voxels.max()}, which are no classes"))
    if faults:
        raise DataError(NOTHING, faults)
    return received_indices(np.ascontiguousarray(voxels.transpose(2, 1, 0)).astype(np.uint8), plan)


def only_drawn_slices(drawing: NDArray[np.uint8], before: NDArray[np.uint8], axis: int) -> NDArray[np.uint8]:
    """The drawing with slices that nothing was changed in marked as not looked at.

    Args:
        drawing: (z, y, x).
        before: What it began with.
        axis: Across the slices.

    Raises:
        DataError: If nothing was changed at all.
    """
    other = tuple(each for each in range(3) if each != axis)
    changed = (drawing != before).any(axis=other)
    if not changed.any():
        raise DataError(NOTHING, [Fault("no slice was changed", remedy="Draw, or save all slices")])
    made = drawing.copy()
    np.moveaxis(made, axis, 0)[~changed] = NOT_LOOKED_AT
    return made


def save_annotation(scans: ViewedScans, scan: ViewedScan, drawing: NDArray[np.uint8]) -> Saved:
    """Write a mask of a scan into the folder of annotations; what was there is kept in its history.

    Args:
        scans: What is shown.
        scan: Which of them.
        drawing: (z, y, x), class indices, on the grid of the scan.

    Raises:
        DataError: If there is no such folder, or nothing is annotated.
    """
    folder = scans.annotations
    if folder is None:
        raise DataError(NOTHING, [Fault("there is no folder for masks", remedy="Start view with --masks DIR")])
    if not (drawing != NOT_LOOKED_AT).any():
        raise DataError(NOTHING, [Fault("nothing is annotated", remedy="Draw something")])
    cases = tuple(each.case for each in scans.scans)
    return save_values(folder, scan.case, cases, raw_values(drawing, scans.plan))
