"""DICOM structure sets (RTSTRUCT), written: closed contours along the edges of pixels, on the slices of a series."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.io.dicom.headers import Plane
from fewlabel.data.io.dicom.mask_polygons import polygons_of
from fewlabel.data.io.dicom.quiet_pydicom import pydicom_library
from fewlabel.data.io.dicom.result_headers import (
    ALSO,
    PATIENT_AND_STUDY,
    UNICODE,
    check_identity,
    filled,
    series_number,
    version,
    writing,
)
from fewlabel.data.io.dicom.series import Series
from fewlabel.data.io.dicom.structure_headers import MAKER
from fewlabel.data.io.dicom.tags import text_of
from fewlabel.data.io.label_tables import Label
from fewlabel.data.io.shear import put_back

_WHAT = "a structure set"
_STORAGE = "1.2.840.10008.5.1.4.1.1.481.3"
#: Class and instance by which the standard has a study referred to (PS3.3, C.8.8.5).
_STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"
#: Digits after the point of coordinates in mm.
_DIGITS = 4


def write_structure_set(path: Path, mask: NDArray[np.integer[Any]], labels: Sequence[Label], series: Series) -> None:
    """Write a mask of a series as a DICOM structure set.

    A contour runs along the edges of its pixels, and has their area. A hole is entered by a channel (keyhole), as
    :func:`fewlabel.data.io.dicom.mask_polygons.polygons_of` has it. Patient, study and system of coordinates are those
    of the series; a structure without a voxel is named and has no contour.

    Args:
        path: Where to.
        mask: (z, y, x) on the grid of :meth:`fewlabel.data.io.dicom.series.Series.read`: numbers of ``labels``, 0
            elsewhere.
        labels: The structures, numbered from 1.
        series: What was segmented.

    Raises:
        DataError: If the series lacks what a structure set needs, such as a system of coordinates.
    """
    check_identity(series, _WHAT)
    with writing(path, series, _WHAT) as partial:
        _structure_set(put_back(mask, series.geometry), labels, series).save_as(partial, enforce_file_format=True)


def contours_of(mask: NDArray[np.bool_], planes: Sequence[Plane]) -> Iterator[tuple[Plane, NDArray[np.float64]]]:
    """The contours of a structure, slice by slice: the slice and corners (n, 3) in mm, patient axes.

    Args:
        mask: (z, y, x).
        planes: The slices.
    """
    for index in np.flatnonzero(mask.any(axis=(1, 2))).tolist():
        plane = planes[index]
        axes = np.array(plane.orientation, dtype=np.float64).reshape(2, 3)
        down, across = plane.spacing or (1.0, 1.0)
        for polygon in polygons_of(mask[index]):
            yield plane, np.array(plane.position) + (polygon * (across, down)) @ axes


def _structure_set(mask: NDArray[np.integer[Any]], labels: Sequence[Label], series: Series) -> Any:
    library = pydicom_library()
    source, now = filled(series.header(0)), datetime.now().astimezone()
    made = library.dataset.FileDataset("", {}, file_meta=_meta(library), preamble=b"\0" * 128)
    made.SpecificCharacterSet = UNICODE
    for name in (*PATIENT_AND_STUDY, *(name for name in ALSO if name in source)):
        setattr(made, name, text_of(source, name))
    made.SOPClassUID, made.SOPInstanceUID = _STORAGE, made.file_meta.MediaStorageSOPInstanceUID
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", library.uid.generate_uid()
    made.SeriesNumber, made.SeriesDescription = series_number(source), f"Segmentation by {MAKER}"
    made.InstanceNumber, made.OperatorsName = 1, ""
    made.Manufacturer = made.ManufacturerModelName = MAKER
    made.SoftwareVersions = made.DeviceSerialNumber = version()
    made.StructureSetLabel, made.StructureSetName = "SEGMENTATION", "Segmentation by a network"
    made.StructureSetDate = made.SeriesDate = made.InstanceCreationDate = now.strftime("%Y%m%d")
    made.StructureSetTime = made.SeriesTime = made.InstanceCreationTime = now.strftime("%H%M%S")
    made.FrameOfReferenceUID = source.FrameOfReferenceUID
    made.PositionReferenceIndicator = text_of(source, "PositionReferenceIndicator")
    made.ApprovalStatus = "UNAPPROVED"
    made.ReferencedFrameOfReferenceSequence = [_referenced(source, series, library)]
    made.StructureSetROISequence = [_region(label, source, library) for label in labels]
    made.ROIContourSequence = [_drawn(label, mask == label.value, series.planes, source, library) for label in labels]
    made.RTROIObservationsSequence = [_observed(label, library) for label in labels]
    return made


def _meta(library: Any) -> Any:
    meta = library.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = _STORAGE, library.uid.generate_uid()
    meta.TransferSyntaxUID = library.uid.ExplicitVRLittleEndian
    return meta


def _item(library: Any, **tags: Any) -> Any:
    item = library.Dataset()
    for name, value in tags.items():
        setattr(item, name, value)
    return item


def _referenced(source: Any, series: Series, library: Any) -> Any:
    """The system of coordinates, and all images of the series."""
    instances = dict.fromkeys(plane.instance for plane in series.planes)
    images = [
        _item(library, ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=instance)
        for instance in instances
    ]
    of_series = _item(library, SeriesInstanceUID=source.SeriesInstanceUID, ContourImageSequence=images)
    of_study = _item(
        library,
        ReferencedSOPClassUID=_STUDY_CLASS,
        ReferencedSOPInstanceUID=source.StudyInstanceUID,
        RTReferencedSeriesSequence=[of_series],
    )
    return _item(library, FrameOfReferenceUID=source.FrameOfReferenceUID, RTReferencedStudySequence=[of_study])


def _region(label: Label, source: Any, library: Any) -> Any:
    return _item(
        library,
        ROINumber=label.value,
        ReferencedFrameOfReferenceUID=source.FrameOfReferenceUID,
        ROIName=label.name[:64],
        ROIGenerationAlgorithm="AUTOMATIC",
    )


def _observed(label: Label, library: Any) -> Any:
    return _item(
        library,
        ObservationNumber=label.value,
        ReferencedROINumber=label.value,
        RTROIInterpretedType="",
        ROIInterpreter="",
    )


def _drawn(label: Label, mask: NDArray[np.bool_], planes: Sequence[Plane], source: Any, library: Any) -> Any:
    contours = []
    for plane, points in contours_of(mask, planes):
        image = _item(library, ReferencedSOPClassUID=source.SOPClassUID, ReferencedSOPInstanceUID=plane.instance)
        if plane.frames > 1:
            image.ReferencedFrameNumber = plane.frame + 1
        contours.append(
            _item(
                library,
                ContourImageSequence=[image],
                ContourGeometricType="CLOSED_PLANAR",
                NumberOfContourPoints=len(points),
                ContourData=[f"{value:.{_DIGITS}f}" for value in points.ravel().tolist()],
            )
        )
    drawn = _item(library, ROIDisplayColor=list(label.colour), ReferencedROINumber=label.value)
    if contours:
        drawn.ContourSequence = contours
    return drawn
