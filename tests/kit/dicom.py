"""Writes small DICOM series: slices in files of their own, or as frames of one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

CT = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROOT = "1.2.826.0.1.3680043.8.1.2"
IMPLICIT, RLE = ImplicitVRLittleEndian, RLELossless


def uid(*words: object) -> str:
    """A UID of our own that these words decide."""
    return pydicom.uid.generate_uid(prefix=f"{ROOT}.", entropy_srcs=[repr(words)])


def dataset(sop_class: str = CT, instance: str = "", **tags: Any) -> FileDataset:
    """An object with what every object has, and with these tags."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = instance or pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    made.Modality, made.PatientID, made.PatientName = "CT", "p1", "Doe^Jane"
    made.StudyInstanceUID, made.SeriesInstanceUID = uid("study"), uid("series")
    made.FrameOfReferenceUID = uid("frame of reference")
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in tags.items():
            setattr(made, name, value)
    return made


def with_pixels(made: FileDataset, array: np.ndarray, stored: int | None = None) -> FileDataset:
    """The object with these pixels, in 16 bits, of which ``stored`` are used."""
    made.Rows, made.Columns = array.shape[-2:]
    made.BitsAllocated, made.BitsStored = 16, stored or 16
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(array.dtype.kind == "i")
    made.PixelData = array.astype("<i2" if array.dtype.kind == "i" else "<u2").tobytes()
    made["PixelData"].VR = "OW"
    return made


def save(made: FileDataset, path: Path, syntax: str | None = None) -> Path:
    """Write an object, packed or in another encoding."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if syntax == RLELossless:
        made.compress(RLELossless)
    elif syntax is not None:
        made.file_meta.TransferSyntaxUID = syntax
    made.save_as(path, enforce_file_format=True)
    return path


def axes(orientation: tuple[float, ...] = AXIAL) -> np.ndarray:
    """(3, 3): unit vectors along rows, along columns and from slice to slice, one per row."""
    first, second = np.array(orientation).reshape(2, 3)
    return np.stack([first, second, np.cross(first, second)])


def write_slices(
    folder: Path,
    array: np.ndarray,
    *,
    origin: tuple[float, ...] = (-10.0, -20.0, 30.0),
    spacing: tuple[float, float] = (0.75, 0.5),
    distance: float = 2.0,
    orientation: tuple[float, ...] = AXIAL,
    step: tuple[float, ...] | None = None,
    syntax: str | None = None,
    names: str = "IM{:03d}",
    each: Any = None,
    **tags: Any,
) -> list[Path]:
    """A file for each slice of an array (z, y, x); ``each`` gives more tags by the number of the slice."""
    direction = np.array(step if step is not None else axes(orientation)[2] * distance)
    files = []
    for number, pixels in enumerate(array):
        made = dataset(instance=uid(str(folder), number, tags.get("SeriesInstanceUID")))
        made.ImagePositionPatient = [round(float(value), 6) for value in np.array(origin) + number * direction]
        made.ImageOrientationPatient, made.PixelSpacing = list(orientation), list(spacing)
        made.SliceThickness, made.InstanceNumber = distance, number + 1
        for name, value in {**tags, **(each(number) if each else {})}.items():
            setattr(made, name, value)
        files.append(save(with_pixels(made, pixels), folder / names.format(number), syntax))
    return files


def item(**tags: Any) -> Sequence:
    """A sequence of one item."""
    made = Dataset()
    for name, value in tags.items():
        setattr(made, name, value)
    return Sequence([made])


def write_frames(
    path: Path,
    array: np.ndarray,
    places: list[float],
    *,
    echoes: list[float] | None = None,
    slopes: list[float] | None = None,
    syntax: str | None = None,
    **tags: Any,
) -> Path:
    """An enhanced multi-frame file: frames (n, y, x) at these places along the patient's axis, 2 mm apart."""
    made = dataset(ENHANCED_MR, **{"Modality": "MR", **tags})
    made.NumberOfFrames = len(array)
    shared = Dataset()
    shared.PixelMeasuresSequence = item(PixelSpacing=[0.75, 0.5], SliceThickness=2.0)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=list(AXIAL))
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    frames = []
    for number, place in enumerate(places):
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=[-10.0, -20.0, place])
        if echoes is not None:
            frame.MREchoSequence = item(EffectiveEchoTime=echoes[number])
        if slopes is not None:
            frame.PixelValueTransformationSequence = item(RescaleSlope=slopes[number], RescaleIntercept=number)
        frames.append(frame)
    made.PerFrameFunctionalGroupsSequence = Sequence(frames)
    return save(with_pixels(made, array), path, syntax)


def write_segmentation(path: Path, files: list[Path], segments: dict[str, np.ndarray], kind: str = "BINARY") -> Path:
    """A DICOM segmentation by highdicom of masks, or shares, (z, y, x) on the slices of these files."""
    import highdicom
    from pydicom.sr.codedict import codes

    source = [pydicom.dcmread(file) for file in files]
    for image in source:
        for name in ("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
                     "ReferringPhysicianName"):  # fmt: skip
            if name not in image:
                setattr(image, name, "")
    described = [
        highdicom.seg.SegmentDescription(
            segment_number=number,
            segment_label=name,
            segmented_property_category=codes.SCT.Organ,
            segmented_property_type=codes.SCT.Liver,
            algorithm_type=highdicom.seg.SegmentAlgorithmTypeValues.MANUAL,
        )
        for number, name in enumerate(segments, start=1)
    ]
    stack = np.stack(list(segments.values()), axis=-1)
    if kind == "LABELMAP":
        stack = sum(mask.astype(np.uint8) * number for number, mask in enumerate(segments.values(), start=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = highdicom.seg.Segmentation(
            source_images=source,
            pixel_array=stack if kind == "FRACTIONAL" else stack.astype(np.uint8),
            segmentation_type=kind,
            segment_descriptions=described,
            series_instance_uid=uid("segmentation", str(path)),
            series_number=100,
            sop_instance_uid=uid("segmentation object", str(path)),
            instance_number=1,
            manufacturer="maker",
            manufacturer_model_name="model",
            software_versions="1",
            device_serial_number="1",
            **({"max_fractional_value": 200, "fractional_type": "PROBABILITY"} if kind == "FRACTIONAL" else {}),
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path)
    return path


def write_structure_set(path: Path, files: list[Path], contours: dict[str, list[np.ndarray]], **tags: Any) -> Path:
    """A structure set of contours (points, 3) in mm, which refers to these files."""
    image = pydicom.dcmread(files[0], stop_before_pixels=True)
    made = dataset("1.2.840.10008.5.1.4.1.1.481.3", instance=uid("structure set", str(path)))
    made.Modality, made.SeriesInstanceUID = "RTSTRUCT", uid("structure set series", str(path))
    made.StudyInstanceUID, made.PatientID, made.PatientName = image.StudyInstanceUID, image.PatientID, image.PatientName
    for name, value in {"StructureSetLabel": "label", "StructureSetDate": "20240102", **tags}.items():
        setattr(made, name, value)
    referenced = []
    for file in files:
        one = Dataset()
        one.ReferencedSOPClassUID = CT
        one.ReferencedSOPInstanceUID = pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID
        referenced.append(one)
    series = item(SeriesInstanceUID=image.SeriesInstanceUID, ContourImageSequence=Sequence(referenced))
    frame = item(RTReferencedSeriesSequence=series, ReferencedSOPInstanceUID=image.StudyInstanceUID)
    made.ReferencedFrameOfReferenceSequence = item(
        FrameOfReferenceUID=image.FrameOfReferenceUID, RTReferencedStudySequence=frame
    )
    regions, drawn = [], []
    for number, (name, polygons) in enumerate(contours.items(), start=1):
        regions.append(item(ROINumber=number, ROIName=name)[0])
        lines = []
        for points in polygons:
            line = Dataset()
            line.ContourGeometricType = "CLOSED_PLANAR" if len(points) > 1 else "POINT"
            line.NumberOfContourPoints = len(points)
            line.ContourData = [round(float(value), 4) for value in np.ravel(points)]
            lines.append(line)
        drawn.append(item(ReferencedROINumber=number, ContourSequence=Sequence(lines))[0])
    made.StructureSetROISequence, made.ROIContourSequence = Sequence(regions), Sequence(drawn)
    return save(made, path)
