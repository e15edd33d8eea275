"""Scans and masks as a browser takes them: plain NIfTI on the scan's own grid, masks by the index of the class."""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.added_mask_reading import NOT_LOOKED_AT
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.io.integer_types import in_smallest_type
from fewlabel.data.preprocess import Plan

#: Kinds of error: found where nothing is, missed, taken for another structure.
FOUND, MISSED, TAKEN = 1, 2, 3
#: Whole numbers of scans that fit are sent in 16 bits: half of what floating point takes.
_INT16 = np.iinfo(np.int16)
#: From left, posterior, superior, as ITK has it, to right, anterior, superior.
_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def affine_of(geometry: Geometry) -> NDArray[np.float64]:
    """(4, 4), from voxel (x, y, z) of the grid at right angles to mm right, anterior, superior."""
    affine = np.eye(4)
    affine[:3, :3] = np.asarray(geometry.direction).reshape(3, 3) * np.asarray(geometry.spacing[::-1])
    affine[:3, 3] = geometry.origin
    made: NDArray[np.float64] = _TO_RAS @ affine
    return made


def nifti_bytes(array: NDArray[Any], geometry: Geometry) -> bytes:
    """An uncompressed NIfTI-1 file.

    Args:
        array: (z, y, x).
        geometry: Of the scan.

    Raises:
        DataError: If an axis has more than 32767 voxels, which NIfTI-1 cannot say.
    """
    if max(array.shape) > _INT16.max:
        fault = Fault(f"an axis has {max(array.shape)} voxels, and a browser is sent {_INT16.max} at most")
        raise DataError("A scan cannot be shown:", [fault])
    image = nibabel.Nifti1Image(np.ascontiguousarray(array.transpose(2, 1, 0)), None)
    affine = affine_of(geometry)
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_xyzt_units("mm")
    content: bytes = image.to_bytes()
    return content


def scan_for_browser(channel: NDArray[np.float32]) -> NDArray[Any]:
    """One channel (z, y, x) in 16 bits where that loses nothing; what is not finite is dark."""
    known = np.isfinite(channel)
    finite = np.where(known, channel, channel[known].min(initial=0)).astype(np.float32)
    low, high = float(finite.min(initial=0)), float(finite.max(initial=0))
    if _INT16.min <= low and high <= _INT16.max and not (finite % 1).any():
        return finite.astype(np.int16)
    return finite


def shown_window(channel: NDArray[np.float32]) -> tuple[float, float]:
    """Intensities shown as black and white: percentiles 1 and 99.5 of all voxels that are finite."""
    finite = channel[np.isfinite(channel)]
    low, high = np.percentile(finite, (1.0, 99.5)) if finite.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-6))


def raw_values(indices: NDArray[np.uint8], plan: Plan) -> NDArray[np.integer[Any]]:
    """The way back: class indices as raw values, in the smallest type; nobody looked is the plan's value to ignore."""
    ignored = plan.ignore_value if plan.ignore_value is not None else NOT_LOOKED_AT
    table = np.full(256, ignored, np.int64)
    table[: len(plan.label_values)] = plan.label_values
    return in_smallest_type(table[indices])


def sent_indices(indices: NDArray[np.uint8], plan: Plan) -> NDArray[np.uint8]:
    """Class indices as the browser takes them: where nobody looked, the one after the last, as colours have no gap."""
    return np.where(indices == NOT_LOOKED_AT, np.uint8(len(plan.label_values)), indices).astype(np.uint8)


def received_indices(sent: NDArray[np.uint8], plan: Plan) -> NDArray[np.uint8]:
    """The way back.

    Raises:
        DataError: If an index is that of no class.
    """
    last = len(plan.label_values) - 1
    wrong = np.unique(sent[sent > last + 1]).tolist()
    if wrong:
        problem = f"the drawing holds {', '.join(map(str, wrong[:5]))}; classes are 0 to {last}"
        raise DataError("The mask was not saved:", [Fault(problem)])
    return np.where(sent == last + 1, np.uint8(NOT_LOOKED_AT), sent).astype(np.uint8)


def errors_between(prediction: NDArray[np.uint8], annotation: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Where a prediction differs from an annotation, and how; 0 where it does not, or nobody looked."""
    errors = np.zeros(prediction.shape, np.uint8)
    apart = (prediction != annotation) & (annotation != NOT_LOOKED_AT) & (prediction != NOT_LOOKED_AT)
    errors[apart] = TAKEN
    errors[apart & (annotation == 0)] = FOUND
    errors[apart & (prediction == 0)] = MISSED
    return errors


def dice_of_classes(prediction: NDArray[np.uint8], annotation: NDArray[np.uint8], classes: int) -> list[float | None]:
    """Dice of each class from 1 where somebody looked; None for a class that is in neither."""
    looked = annotation != NOT_LOOKED_AT
    values: list[float | None] = []
    for index in range(1, classes):
        mine, its = (prediction == index) & looked, annotation == index
        total = int(mine.sum()) + int(its.sum())
        values.append(2 * int((mine & its).sum()) / total if total else None)
    return values
