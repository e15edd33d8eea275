"""Masks of DICOM series as DICOM: segmentations and structure sets, which belong to the patient of their series."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.io.dicom.address import DicomScan, parse_dicom
from fewlabel.data.io.dicom.data_set_index import open_archive
from fewlabel.data.io.dicom.segmentation_writing import Kind, write_segmentation
from fewlabel.data.io.dicom.series import Series
from fewlabel.data.io.dicom.structure_set_writing import write_structure_set
from fewlabel.data.io.label_tables import Label, labels_of
from fewlabel.data.preprocess import Plan
from fewlabel.stages.predict.mask_names import Group, Scan, named_scans

SUFFIX = ".dcm"
_MOST_NAMED = 3


def named_by_series(kind: str) -> Callable[[Iterable[Group], Path], tuple[Scan, ...]]:
    """What names masks of DICOM series, by their pseudonyms and the kind of the mask."""
    return lambda groups, root: named_scans(_of_series(groups), root, f"_{kind}{SUFFIX}")


def _of_series(groups: Iterable[Group]) -> list[Group]:
    """The scans, if all are series of DICOM.

    Raises:
        SettingsError: If one is none.
    """
    groups = list(groups)
    others = [shown(images[0]) for images, _ in groups if not isinstance(parse_dicom(images[0]), DicomScan)]
    if others:
        more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
        problem = f"is for series of DICOM, and not for {', '.join(others[:_MOST_NAMED])}{more}"
        raise SettingsError("Nothing was written:", [Fault(problem, "format", "Choose nifti, seg_nrrd or bids")])
    return groups


def write_seg(kind: Kind) -> Callable[[Path, NDArray[np.uint8], Path, Plan], None]:
    """What writes segmentations of a kind."""

    def write(target: Path, classes: NDArray[np.uint8], reference: Path, plan: Plan) -> None:
        series, mask, labels = _facts(classes, reference, plan)
        write_segmentation(target, mask, labels, series, kind)

    return write


def write_rtstruct(target: Path, classes: NDArray[np.uint8], reference: Path, plan: Plan) -> None:
    """Write a structure set."""
    series, mask, labels = _facts(classes, reference, plan)
    write_structure_set(target, mask, labels, series)


def _facts(
    classes: NDArray[np.uint8], reference: Path, plan: Plan
) -> tuple[Series, NDArray[np.uint8], tuple[Label, ...]]:
    """The series, the classes on its grid, and their names; numbered from 1, as DICOM has it."""
    scan = parse_dicom(reference)
    if not isinstance(scan, DicomScan) or len(classes) > 1:
        raise ValueError("a mask of DICOM is of one volume of a series")
    numbered = labels_of(plan.label_names, range(len(plan.label_names)))
    return open_archive(scan.root).series(scan.scan), classes[0], numbered
