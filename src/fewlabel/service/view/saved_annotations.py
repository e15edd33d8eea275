"""A mask that was drawn in the browser, checked and written beside the run, never over the source."""

from __future__ import annotations

import getpass
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.output_paths import as_file_name
from fewlabel.data.io.catalog_paths import mask_suffix, scan_stem
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import PreparedCase
from fewlabel.service.view.viewed_scans import ViewedScan, ViewedScans
from fewlabel.service.view.volumes_for_browser import NOT_LOOKED_AT, affine_of, raw_values, received_indices

#: Folder, in that of the annotations, of earlier versions and of who saved what when. Hidden: it holds no annotations.
HISTORY, JOURNAL = ".history", "saved.jsonl"
#: The largest number in 8 bits.
_MOST = 255
_NOTHING = "The mask was not saved:"


@dataclass(frozen=True)
class Saved:
    """What was written, where, by whom and when."""

    file: Path
    who: str
    when: str

    def record(self) -> dict[str, Any]:
        """For the page."""
        return {"file": self.file.name, "who": self.who, "when": self.when}


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
    elif voxels.size and (voxels.min() < 0 or voxels.max() > _MOST):
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
        raise DataError(_NOTHING, [Fault("there is no folder for masks", remedy="Start view with --masks DIR")])
    if not (drawing != NOT_LOOKED_AT).any():
        raise DataError(_NOTHING, [Fault("nothing is annotated", remedy="Draw something")])
    values = raw_values(drawing, scans.plan)
    target = folder / _file_name(scan.case, scans.cases)
    before = scans.added_masks().get(scan.case.id)
    now = datetime.now(UTC)
    history = folder / HISTORY
    history.mkdir(parents=True, exist_ok=True)
    kept = _keep(before, history, now) if before is not None else ""
    write_mask(target, values, scan.images[0])
    if before is not None and before != target:
        # Of two masks of one scan nobody could say which counts.
        before.unlink()
    saved = Saved(target, _who(), now.isoformat(timespec="seconds"))
    line = {"case": scan.case.id, **saved.record(), "before": kept}
    with (history / JOURNAL).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line) + "\n")
    return saved


def saved_by(folder: Path | None) -> dict[str, Mapping[str, str]]:
    """Id → who saved its mask last, and when, as far as it was saved by the page."""
    found: dict[str, Mapping[str, str]] = {}
    try:
        lines = (folder / HISTORY / JOURNAL).read_text(encoding="utf-8").splitlines() if folder is not None else []
    except OSError:
        lines = []
    for text in lines:
        try:
            line = json.loads(text)
            found[str(line["case"])] = {"who": str(line["who"]), "when": str(line["when"])}
        except (ValueError, KeyError, TypeError):
            # A line that was cut short.
            continue
    return found


def _file_name(case: PreparedCase, cases: tuple[PreparedCase, ...]) -> str:
    """A name by which the mask is found again: the id, or the name of its file where an id names no file."""
    image = Path(case.images[0])
    stems = [scan_stem(Path(other.images[0])) for other in cases]
    names = [case.id, *([scan_stem(image)] if stems.count(scan_stem(image)) == 1 else [])]
    for name in names:
        if as_file_name(name) == name:
            return f"{name}{mask_suffix(image)}"
    fault = Fault(f"{case.id} is no name for a file", remedy="Give the scan another id")
    raise DataError(_NOTHING, [fault])


def _keep(mask: Path, history: Path, now: datetime) -> str:
    """Another name for the mask as it is; a copy where the disk knows no second name."""
    name = f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}-{mask.name}"
    try:
        os.link(mask, history / name)
    except OSError:
        shutil.copyfile(mask, history / name)
    return name


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in containers.
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
