"""A drawing that the browser sends: read, checked, and saved as the mask of its scan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.added_mask_reading import NOT_LOOKED_AT, read_annotation
from fewlabel.data.annotation_saving import SavedAnnotation, save_annotation
from fewlabel.data.empty_masks import EmptyMaskError, check_structure
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.masks_added_later import look_through
from fewlabel.data.preprocess import Plan, indices_of_values
from fewlabel.data.relabel import untaken_masks
from fewlabel.service.view.viewed_scans import ViewedScan, ViewedScans
from fewlabel.service.view.volumes_for_browser import affine_of, raw_values, received_indices

_NOTHING = "The mask was not saved:"
_IF_EMPTY = "Draw it; if there is nothing on the scan, say so as you save it, or start view with learn.empty_masks=true"


def drawing_of(body: bytes, geometry: Geometry, plan: Plan) -> NDArray[np.uint8]:
    """The voxels (z, y, x) of a NIfTI file that the browser sent: class indices on the grid that it was given.

    Raises:
        DataError: If it is no such file, has another shape, place or kind of number, or holds what is no class.
    """
    try:
        image: Any = nibabel.Nifti1Image.from_bytes(body)
        voxels = np.asanyarray(image.dataobj)
    except Exception as error:  # whatever nibabel meets in bytes of anybody
        raise DataError(_NOTHING, [Fault("what was sent is no NIfTI file")]) from error
    while voxels.ndim > 3 and voxels.shape[-1] == 1:
        voxels = voxels[..., 0]
    wanted, faults = geometry.shape[::-1], []
    if voxels.shape != wanted:
        faults.append(Fault(f"the drawing has shape {voxels.shape}, but the scan has {wanted} (x, y, z)"))
    elif np.abs(image.affine - affine_of(geometry)).max() > 1e-3 * max(1.0, float(np.abs(image.affine).max())):
        faults.append(Fault("the drawing lies elsewhere than the scan"))
    if voxels.dtype.kind not in "iu":
        faults.append(Fault(f"the drawing holds numbers of the type {voxels.dtype}, not whole ones"))
    elif voxels.size and (voxels.min() < 0 or voxels.max() > np.iinfo(np.uint8).max):
        faults.append(Fault(f"the drawing holds {voxels.min()} to {voxels.max()}, which are no classes"))
    if faults:
        raise DataError(_NOTHING, faults)
    return received_indices(np.ascontiguousarray(voxels.transpose(2, 1, 0)).astype(np.uint8), plan)


def slices_alone(drawing: NDArray[np.uint8], slices: Sequence[int], axis: int) -> NDArray[np.uint8]:
    """The drawing, all slices but these marked as not looked at.

    Args:
        drawing: (z, y, x).
        slices: Those that count, by their number along the axis.
        axis: Across the slices.

    Raises:
        DataError: If there are none of them, or the scan has no such slice.
    """
    count = drawing.shape[axis]
    wrong = sorted({number for number in slices if not 0 <= number < count})
    if wrong:
        raise DataError(_NOTHING, [Fault(f"there is no slice {wrong[0]}; they are 0 to {count - 1}")])
    if not slices:
        raise DataError(_NOTHING, [Fault("no slice was changed", remedy="Draw, or let all slices count")])
    made = np.full_like(drawing, NOT_LOOKED_AT)
    np.moveaxis(made, axis, 0)[list(slices)] = np.moveaxis(drawing, axis, 0)[list(slices)]
    return made


def save_drawing(
    scans: ViewedScans, scan: ViewedScan, drawing: NDArray[np.uint8], *, empty_masks: bool = False
) -> SavedAnnotation:
    """Save a drawing into the folder of annotations.

    Args:
        scans: What is shown.
        scan: Which of them.
        drawing: (z, y, x), class indices, on the grid of the scan.
        empty_masks: Whether it may be all background where no other mask is: somebody said that there is nothing.

    Raises:
        EmptyMaskError: If there is no structure, which only masks that came with other scans make usual.
        DataError: If there is no such folder, or nothing is annotated.
    """
    if scans.annotations is None:
        raise DataError(_NOTHING, [Fault("there is no folder for masks", remedy="Start view with --masks DIR")])
    if not (drawing != NOT_LOOKED_AT).any():
        raise DataError(_NOTHING, [Fault("nothing is annotated", remedy="Draw something")])
    values = raw_values(drawing, scans.plan)
    nothing = not _has_structure(drawing)
    if nothing and not empty_masks:
        if scans.store is not None:
            redrawn = untaken_masks(scans.store, look_through(scans.annotations, scans.store.cases).masks)
            check_structure(scans.store, scan.case, values, scans.plan, _IF_EMPTY, redrawn)
        elif all(map(_has_structure, _other_masks(scans, scan))):
            raise EmptyMaskError(_NOTHING, [Fault("is all background, as no other mask is", scan.case.id, _IF_EMPTY)])
    said = nothing and empty_masks
    return save_annotation(scans.annotations, scans.cases, scan.case, scans.plan, values, nothing_there=said)


def _has_structure(indices: NDArray[np.uint8]) -> bool:
    return bool(((indices != 0) & (indices != NOT_LOOKED_AT)).any())


def _other_masks(scans: ViewedScans, scan: ViewedScan) -> Iterator[NDArray[np.uint8]]:
    """Class indices of the masks that came with all other scans, as far as they can be read.

    As in a run, those in the folder of annotations, which may be slips, do not make an empty one usual; nor do those
    that they take the place of.
    """
    added = scans.added_masks()
    for case in scans.cases:
        if case.label is None or case.id in added or case.id == scan.case.id:
            continue
        try:
            yield indices_of_values(read_annotation(case, Path(case.label), scans.plan), scans.plan)
        except (DataError, OSError):
            # Who opens it is told why.
            continue
