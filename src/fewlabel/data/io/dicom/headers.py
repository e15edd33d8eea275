"""Headers of DICOM files: which series a file is of, and where each of its slices lies."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewlabel.data.io.dicom.multiframe import frame_values, functional_groups
from fewlabel.data.io.dicom.quiet_pydicom import quiet
from fewlabel.data.io.dicom.tags import number_of, numbers_of, read_dataset, text_of, texts_of, whole_of

#: Objects that hold no image of a scanner.
NO_IMAGE = frozenset(
    {"SEG", "RTSTRUCT", "RTDOSE", "RTPLAN", "RTRECORD", "SR", "PR", "KO", "REG", "FID", "DOC", "AU", "ECG"}
)
#: What may tell slices at one place apart, the likeliest first → how it is called.
MARKS = {
    "ImageType": "image type",
    "EchoNumbers": "echo",
    "EchoTime": "echo time",
    "InversionTime": "inversion time",
    "TemporalPositionIdentifier": "time point",
    "DiffusionBValue": "b-value",
    "SequenceName": "sequence",
    "TriggerTime": "trigger time",
    "AcquisitionNumber": "acquisition",
    "ConvolutionKernel": "kernel",
    "KVP": "tube voltage",
    "AcquisitionTime": "acquisition time",
    "ContentTime": "content time",
}
_READ = (
    "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID",
    "PatientID", "PatientName", "IssuerOfPatientID", "SeriesDescription", "ProtocolName", "SeriesNumber",
    "InstanceNumber", "NumberOfFrames", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation",
    "BitsAllocated", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "DimensionIndexSequence", *MARKS,
)  # fmt: skip
#: Pixels that nobody minds, whatever a file declares; and pixels that one byte of a file can hold at most.
_HARMLESS, _DENSEST = 1 << 24, 2048

#: Bytes of the tag of pixels, with its length and, where it is there, its type.
_TAG, _TAG_WITH_TYPE = 8, 12


@dataclass(frozen=True)
class Plane:
    """One slice of an image, in a file of its own or as a frame of one.

    Attributes:
        file: Where its pixels are.
        frame: Of the file, from 0.
        frames: That the file has.
        instance: UID of the file's object.
        number: Of the file in its series; None where it says none.
        shape: (rows, columns).
        position: Centre of its first pixel in mm (left, posterior, superior); None where it is not known.
        orientation: Unit vectors along its rows and along its columns, six numbers; None where they are not known.
        spacing: Distance in mm between its rows, and between its columns; None where it is not known.
        thickness: Distance to the next slice in mm as the header has it, else how thick it is; None where not known.
        slope: Factor from stored values to those that are meant.
        intercept: What is added after it.
        marks: What may tell it from another slice at the same place: how it is called → value.
    """

    file: Path
    frame: int
    frames: int
    instance: str
    number: int | None
    shape: tuple[int, int]
    position: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    spacing: tuple[float, ...] | None = None
    thickness: float | None = None
    slope: float = 1.0
    intercept: float = 0.0
    marks: Mapping[str, Hashable] = field(default_factory=dict)


@dataclass(frozen=True)
class Header:
    """What a file says of itself, as far as it decides which volume it is of.

    Attributes:
        file: The file.
        size: In bytes.
        modality: Such as ``CT``.
        kind_of_object: UID of the class that the object is of.
        instance: UID of the object.
        series: UID of its series; where it has none, a text that the files of its folder share.
        study: UID of its study, likewise.
        frame_of_reference: UID of its system of coordinates, or empty.
        patient: Who issued the patient's number, and the number; both may be empty.
        person: Name of the patient.
        description: Of the series, else the name of its protocol.
        series_number: Of the series in its study; None where it says none.
        kind: Values of ``ImageType``.
        samples: Values per pixel.
        inverted: Whether high values are dark.
        cut: Whether the file ends before the pixels that its header says it holds.
        planes: Its slices; none for an object without an image.
    """

    file: Path
    size: int
    modality: str
    kind_of_object: str
    instance: str
    series: str
    study: str
    frame_of_reference: str
    patient: tuple[str, str]
    person: str
    description: str
    series_number: int | None
    kind: tuple[str, ...]
    samples: int
    inverted: bool
    cut: bool
    planes: tuple[Plane, ...]


@quiet()
def read_header(file: Path) -> Header:
    """What decides which volume a file is of.

    Raises:
        DataError: If pydicom is not installed.
        ValueError: If it is no DICOM file, or is damaged.
        OSError: If it cannot be read.
    """
    with file.open("rb") as stream:
        dataset = read_dataset(stream, tags=_READ)
        rest = file.stat().st_size - stream.tell()
    instance = text_of(dataset, "SOPInstanceUID") or text_of(dataset.file_meta, "MediaStorageSOPInstanceUID")
    modality = text_of(dataset, "Modality")
    apart, size = f"folder {file.parent}", file.stat().st_size
    cut = _is_cut(dataset, rest)
    return Header(
        file=file,
        size=size,
        modality=modality,
        kind_of_object=text_of(dataset, "SOPClassUID"),
        instance=instance,
        series=text_of(dataset, "SeriesInstanceUID") or apart,
        study=text_of(dataset, "StudyInstanceUID") or apart,
        frame_of_reference=text_of(dataset, "FrameOfReferenceUID"),
        patient=(text_of(dataset, "IssuerOfPatientID"), text_of(dataset, "PatientID")),
        person=text_of(dataset, "PatientName"),
        description=text_of(dataset, "SeriesDescription") or text_of(dataset, "ProtocolName"),
        series_number=whole_of(dataset, "SeriesNumber"),
        kind=texts_of(dataset, "ImageType"),
        samples=whole_of(dataset, "SamplesPerPixel") or 1,
        inverted=text_of(dataset, "PhotometricInterpretation").upper() == "MONOCHROME1",
        cut=cut,
        planes=() if modality in NO_IMAGE else _planes(file, instance, dataset, cut=cut),
    )


def _is_cut(dataset: Any, rest: int) -> bool:
    """Whether less is left of a file, from the tag of its pixels on, than these take; not known of packed ones."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    sides = [max(0, whole_of(dataset, name) or 0) for name in ("Rows", "Columns")]
    more = [max(1, whole_of(dataset, name) or 1) for name in ("NumberOfFrames", "SamplesPerPixel")]
    pixels = math.prod((*sides, *more))
    if syntax is not None and (syntax.is_private or syntax.is_compressed or syntax.is_deflated):
        # How many bytes packed pixels take is not known; but no packing makes nothing of them.
        return pixels > _HARMLESS and pixels > _DENSEST * rest
    tag = _TAG if syntax is None or syntax.is_implicit_VR else _TAG_WITH_TYPE
    bits = whole_of(dataset, "BitsAllocated")
    return pixels > 0 and pixels * (bits or 1) > 8 * (rest - tag) and (bits is not None or pixels > _HARMLESS)


def _planes(file: Path, instance: str, dataset: Any, *, cut: bool) -> tuple[Plane, ...]:
    rows, columns = whole_of(dataset, "Rows"), whole_of(dataset, "Columns")
    if not rows or not columns:
        return ()
    count = whole_of(dataset, "NumberOfFrames") or 1
    number = whole_of(dataset, "InstanceNumber")
    groups = functional_groups(dataset)
    if groups:
        values = [frame_values(dataset, group) for group in groups]
    elif count == 1 or cut:
        values = [_values(dataset)]
    else:
        # Frames whose places nobody says.
        values = [{}] * count
    return tuple(
        Plane(file, frame, len(values), instance, number, (rows, columns), **each) for frame, each in enumerate(values)
    )


def _values(dataset: Any) -> dict[str, Any]:
    """Of a file of one slice."""
    marks = {called: value for name, called in MARKS.items() if (value := texts_of(dataset, name))}
    if "image type" in marks:
        # The first two values say how the image was made, not what it shows.
        marks["image type"] = marks["image type"][2:]
    spacing = numbers_of(dataset, "PixelSpacing", 2) or numbers_of(dataset, "ImagerPixelSpacing", 2)
    thickness = number_of(dataset, "SpacingBetweenSlices") or number_of(dataset, "SliceThickness")
    return {
        "position": numbers_of(dataset, "ImagePositionPatient", 3),
        "orientation": numbers_of(dataset, "ImageOrientationPatient", 6),
        "spacing": spacing,
        "thickness": None if thickness is None else abs(thickness),
        "slope": number_of(dataset, "RescaleSlope") or 1.0,
        "intercept": number_of(dataset, "RescaleIntercept") or 0.0,
        "marks": marks,
    }
