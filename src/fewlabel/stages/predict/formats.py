"""What masks can be written as: like their scan, NIfTI, segmentations for 3D Slicer, BIDS derivatives, or DICOM."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact.files import write_json
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.file_names import PICTURE_SUFFIXES, SEGMENTATION_SUFFIX
from fewlabel.data.io.integer_types import in_smallest_type
from fewlabel.data.io.label_tables import Label, bids_lookup_table, itk_snap_labels, labels_of, one_line
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.io.segment_writing import write_segmentation
from fewlabel.data.preprocess import Plan
from fewlabel.stages.predict import bids
from fewlabel.stages.predict.dicom_formats import SUFFIX as DICOM
from fewlabel.stages.predict.dicom_formats import named_by_series, write_rtstruct, write_seg
from fewlabel.stages.predict.mask_names import Group, Scan, named_scans

FormatName = Literal["auto", "nifti", "seg_nrrd", "bids", "dicom_seg", "dicom_labelmap", "rtstruct"]
NIFTI = ".nii.gz"
LABELS = "labels.txt"


@dataclass(frozen=True)
class MaskFormat:
    """One way to write masks.

    Attributes:
        named: What masks are called, from the scans and the folder that these are expected in.
        write: Writes the classes (frames, z, y, x) of a scan to a file, in terms of a plan; what goes with it, too.
        beside: Suffixes, put in the place of a mask's own, of the files that ``write`` adds.
        tables: Name → content of the files about all masks, from the plan and the names of the masks.
        suffix: What every name ends in; empty if that depends on the scan.
        kind: What sets its files apart from those of others that may have the same name; empty if nothing has to.
    """

    named: Callable[[Iterable[Group], Path], tuple[Scan, ...]]
    write: Callable[[Path, NDArray[np.uint8], Path, Plan], None]
    beside: tuple[str, ...]
    tables: Callable[[Plan, Sequence[Path]], Mapping[str, str]]
    suffix: str = ""
    kind: str = ""


def mask_format(name: FormatName, mask: str) -> MaskFormat:
    """The format of a setting.

    Args:
        name: The setting; ``auto`` follows the name of the mask where one is given, and else the scans.
        mask: Name of the one file that is asked for; empty for a folder.

    Raises:
        SettingsError: If a file of that name cannot be in that format.
    """
    if name == "auto":
        by_suffix: dict[str, FormatName] = {SEGMENTATION_SUFFIX: "seg_nrrd", DICOM: "dicom_seg"}
        name = next((form for suffix, form in by_suffix.items() if mask.lower().endswith(suffix)), name)
    form = FORMATS[name]
    if mask and name == "bids":
        fault = Fault(f"bids is a folder of masks, and --out {mask} is a file", "format", "Give a folder as --out")
        raise SettingsError("Nothing was written:", [fault])
    fitting = (".nii.gz", ".nii") if name == "nifti" else (form.suffix,)
    if mask and form.suffix and not mask.lower().endswith(fitting):
        remedy = f"Give a name such as {scan_stem(Path(mask))}{form.suffix}, or leave out format"
        raise SettingsError("Nothing was written:", [Fault(f"{name} cannot be the format of {mask}", "format", remedy)])
    return form


def files_of(form: MaskFormat, mask: Path) -> list[Path]:
    """A mask and what its format writes with it."""
    return [mask, *(mask.with_name(f"{scan_stem(mask)}{suffix}") for suffix in form.beside)]


def raw_values(classes: NDArray[np.uint8], plan: Plan) -> NDArray[Any]:
    """Classes as the values of the data set, in the smallest type that holds them all."""
    return in_smallest_type(np.array(plan.label_values))[classes]


def _write_image(target: Path, classes: NDArray[np.uint8], reference: Path, plan: Plan) -> None:
    raw = raw_values(classes, plan)
    write_mask(target, raw if len(raw) > 1 else raw[0], reference)


def _write_segments(target: Path, classes: NDArray[np.uint8], reference: Path, plan: Plan) -> None:
    if len(classes) > 1:
        problem = f"{reference} is a cine of {len(classes)} frames, and a .seg.nrrd holds one volume"
        fault = Fault(problem, remedy="Leave out format, or give single frames")
        raise DataError("A mask cannot be written:", [fault])
    named = labels_of(plan.label_names, plan.label_values)
    if plan.label_values[0] == 0 and all(label.value > 0 for label in named):
        write_segmentation(target, raw_values(classes, plan)[0], named, reference)
    else:
        # Slicer takes 0 for nothing and what is above it for segments.
        numbered = labels_of(plan.label_names, range(len(plan.label_values)))
        write_segmentation(target, classes[0], numbered, reference)


def _write_bids(target: Path, classes: NDArray[np.uint8], reference: Path, plan: Plan) -> None:
    _write_image(target, classes, reference, plan)
    write_json(target.with_name(f"{scan_stem(target)}.json"), bids.SIDECAR)


def _label_descriptions(plan: Plan, masks: Sequence[Path]) -> dict[str, str]:
    """For ITK-SNAP, which opens volumes; nothing where its labels cannot be these."""
    volumes = any(not mask.name.lower().endswith(PICTURE_SUFFIXES) for mask in masks)
    text = itk_snap_labels(labels_of(plan.label_names, plan.label_values)) if volumes else ""
    return {LABELS: text} if text and plan.label_values[0] == 0 else {}


def _bids_tables(plan: Plan, masks: Sequence[Path]) -> dict[str, str]:  # noqa: ARG001
    background = Label(plan.label_values[0], one_line(plan.label_names[0]), (0, 0, 0))
    lookup = bids_lookup_table(labels_of(plan.label_names, plan.label_values), background)
    return {"dseg.tsv": lookup, **bids.dataset_files()}


def _no_tables(plan: Plan, masks: Sequence[Path]) -> dict[str, str]:  # noqa: ARG001
    return {}


def _as(suffix: str) -> Callable[[Iterable[Group], Path], tuple[Scan, ...]]:
    return lambda groups, root: named_scans(groups, root, suffix)


FORMATS: dict[str, MaskFormat] = {
    "auto": MaskFormat(named_scans, _write_image, (), _label_descriptions),
    "nifti": MaskFormat(_as(NIFTI), _write_image, (), _label_descriptions, NIFTI),
    "seg_nrrd": MaskFormat(_as(SEGMENTATION_SUFFIX), _write_segments, (), _no_tables, SEGMENTATION_SUFFIX),
    "bids": MaskFormat(bids.named_by_bids, _write_bids, (".json",), _bids_tables, NIFTI),
    "dicom_seg": MaskFormat(named_by_series("seg"), write_seg("BINARY"), (), _no_tables, DICOM, "dicom_seg"),
    "dicom_labelmap": MaskFormat(
        named_by_series("labelmap"), write_seg("LABELMAP"), (), _no_tables, DICOM, "dicom_labelmap"
    ),
    "rtstruct": MaskFormat(named_by_series("rtstruct"), write_rtstruct, (), _no_tables, DICOM, "rtstruct"),
}
