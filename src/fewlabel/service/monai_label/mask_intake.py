"""A mask that a viewer sends of a scan of the run: read, put into the values of the data set, and saved."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.annotation_saving import save_annotation
from fewlabel.data.empty_masks import check_structure, holds_structure
from fewlabel.data.io.catalog_paths import mask_suffix, scan_stem
from fewlabel.data.io.integer_types import in_smallest_type
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.io.volume_reading import mask_faults, read_geometry, read_mask
from fewlabel.data.masks_added_later import FOLDER, look_through
from fewlabel.data.relabel import untaken_masks
from fewlabel.data.store import PreparedCase
from fewlabel.service.monai_label.run_scans import RunScans

#: Suffix of bare voxels, as OHIF sends them.
BARE = ".bin"
_IF_EMPTY = "Draw it; if there is nothing on the scan, start serve with empty_masks=true"


def save_mask(scans: RunScans, case: PreparedCase, sent: Path, label_info: Any, *, empty_masks: bool = False) -> Path:
    """Save a mask where ``learn`` takes it from.

    Args:
        scans: Of the run.
        case: The scan.
        sent: The file: an image on the scan's grid, or bare voxels.
        label_info: What its numbers stand for, as Slicer says it: ``[{"name": "RV", "idx": 1}]``; None where they are
            those of the protocol.
        empty_masks: Whether a mask may be all background where no other is.

    Returns:
        The file.

    Raises:
        DataError: If it lies on another grid, holds a number that is no class, no annotation, or no structure.
    """
    numbers = _numbers(Path(case.images[0]), sent)
    values = scans.to_values(numbers, _names(label_info))
    state, folder = scans.state(), scans.run / FOLDER
    nothing = not holds_structure(values, state.plan)
    if nothing and not empty_masks:
        redrawn = untaken_masks(state.store, look_through(folder, state.store.cases).masks)
        check_structure(state.store, case, values, state.plan, _IF_EMPTY, redrawn)
    # What says that such masks are right is kept beside them: another round may be begun without it.
    said = nothing and empty_masks
    return save_annotation(folder, state.store.cases, case, state.plan, values, nothing_there=said).file


def save_mask_of_upload(scans: RunScans, image: Path, sent: Path, label_info: Any) -> Path:
    """Keep a mask of a scan that was sent, beside it: ``learn`` knows scans of the run alone.

    Raises:
        DataError: As :func:`save_mask`.
    """
    values = scans.to_values(_numbers(image, sent), _names(label_info))
    folder = image.parent / FOLDER
    folder.mkdir(exist_ok=True)
    target = folder / f"{scan_stem(image)}{mask_suffix(image)}"
    write_mask(target, in_smallest_type(values), image)
    return target


def _numbers(image: Path, sent: Path) -> NDArray[np.integer[Any]]:
    grid = read_geometry(image)
    if sent.suffix == BARE:
        content, voxels = sent.read_bytes(), int(np.prod(grid.shape))
        kinds: dict[int, Any] = {voxels: np.uint8, 2 * voxels: np.dtype("<u2")}
        if len(content) not in kinds:
            shape = "x".join(map(str, grid.shape[::-1]))
            problem = f"has {len(content)} bytes, but the scan has {voxels} voxels ({shape})"
            raise DataError("The mask cannot be saved:", [Fault(problem, "label", "Send one or two bytes a voxel")])
        bare: NDArray[Any] = np.frombuffer(content, kinds[len(content)])
        return bare.reshape(grid.shape).astype(np.int64)
    try:
        _, apart = mask_faults(image, grid, sent)
        values = None if apart else read_mask(sent, grid=grid)
    except DataError as error:
        apart, values = list(error.faults), None
    if values is None:
        # Of the file as it was received, the name says nothing to its sender.
        faults = [Fault(fault.problem.replace(str(sent), "the mask"), "label", fault.remedy) for fault in apart]
        raise DataError("The mask cannot be saved:", faults)
    return values


def _names(label_info: Any) -> dict[int, str] | None:
    """Number → name, as far as it can be read; names of Slicer's scribbles are no structures."""
    if not isinstance(label_info, list):
        return None
    pairs = [(item.get("idx"), item.get("name")) for item in label_info if isinstance(item, Mapping)]
    names = {number: str(name) for number, name in pairs if isinstance(number, int) and name}
    return names or None
