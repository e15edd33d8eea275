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
