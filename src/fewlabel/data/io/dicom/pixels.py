"""Pixels of DICOM slices: stored numbers, unpacked by pydicom or by ITK, then scaled as each slice says."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.core.memory_limit import too_large
from fewlabel.data.io.dicom.headers import Plane
from fewlabel.data.io.dicom.quiet_pydicom import pydicom_library, quiet
from fewlabel.data.io.dicom.tags import read_dataset, whole_of
from fewlabel.data.io.dicom_faults import gdcm

#: Of a file that holds pixels and nothing else.
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7.3"
#: GDCM refuses small pictures that run lengths make larger.
_RLE = "1.2.840.10008.1.2.5"
_PIXELS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "NumberOfFrames", "PixelData",
)  # fmt: skip
_AGAIN = "Copy or export the series again, or leave it out"


def read_planes(planes: Sequence[Plane], where: str) -> NDArray[np.float32]:
    """Values (slices, rows, columns) of slices of one size, scaled by their slopes and intercepts.

    Args:
        planes: The slices.
        where: What faults call the volume.

    Raises:
        DataError: If a file cannot be read or its pixels cannot be unpacked.
    """
    count = len(planes) * planes[0].shape[0] * planes[0].shape[1]
    if problem := too_large(4 * count + 2 * count // len({plane.file for plane in planes})):
        raise DataError("A scan cannot be used:", [Fault(problem, where, "Are its headers right?")])
    values = np.empty((len(planes), *planes[0].shape), dtype=np.float32)
    file: Path | None = None
    stored: NDArray[Any] = np.empty(0)
    for place, plane in enumerate(planes):
        if plane.file != file:
            file, stored = plane.file, _stored(plane, where)
        if stored.shape != (plane.frames, *plane.shape):
            problem = f"slice {place + 1} does not hold the {plane.shape} pixels (rows, columns) that its header says"
            raise DataError("A scan cannot be used:", [Fault(problem, where, _AGAIN)])
        # In double precision first: intercepts are large beside the differences that count.
        values[place] = stored[plane.frame].astype(np.float64) * plane.slope + plane.intercept
    return values


def frame_reader(dataset: Any, where: str) -> Callable[[int], NDArray[Any]]:
    """What gives the stored numbers (rows, columns) of a frame of an object, by its number from 0.

    Frames are unpacked one by one where pydicom can, and all at once where only GDCM can.

    Args:
        dataset: The object, with its pixels.
        where: What faults call it.
    """
    packed = _packed_for_gdcm(dataset)
    every: list[NDArray[Any]] = []

    def read(frame: int) -> NDArray[Any]:
        try:
            with quiet():
                if not packed:
                    return np.asarray(pydicom_library().pixels.pixel_array(dataset, index=frame))
                if not every:
                    every.append(_by_gdcm(dataset).reshape(-1, dataset.Rows, dataset.Columns))
                return np.asarray(every[0][frame])
        except MemoryError:
            raise
        except Exception as error:  # decoders raise anything on damage, and their texts may quote tags
            fault = Fault("its pixels cannot be unpacked", where, "Copy or export it again")
            raise DataError("A mask cannot be read:", [fault]) from error

    return read


def _stored(plane: Plane, where: str) -> NDArray[Any]:
    """Numbers (frames, rows, columns) of a file as they are stored; those of a table of values, if it has one."""
    try:
        dataset = read_dataset(plane.file, pixels=True)
    except (OSError, ValueError) as error:
        # The text of an OSError would name the file, whose path may name the patient.
        why = reason(error) if isinstance(error, OSError) else "its file is cut off or damaged"
        fault = Fault(f"a slice cannot be read ({why})", where, _AGAIN)
        raise DataError("A scan cannot be used:", [fault]) from error
    try:
        with quiet():
            stored = _unpacked(dataset)
            if "ModalityLUTSequence" in dataset:
                stored = np.asarray(pydicom_library().pixels.apply_modality_lut(stored, dataset))
    except MemoryError:
        raise
    except Exception as error:  # decoders raise anything on damage, and their texts may quote tags
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        named = "no transfer syntax" if syntax is None else str(syntax.name)
        problem = f"the pixels of a slice cannot be unpacked ({named})"
        remedy = "Is the file complete? Export the series again, uncompressed if that is a choice"
        raise DataError("A scan cannot be used:", [Fault(problem, where, remedy)]) from error
    return stored if stored.ndim == 3 else stored[None]


def _packed_for_gdcm(dataset: Any) -> bool:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    return syntax is not None and syntax.is_transfer_syntax and syntax.is_encapsulated and syntax != _RLE


def _unpacked(dataset: Any) -> NDArray[Any]:
    """By ITK's GDCM, or by pydicom where that cannot: run lengths, and what nothing packs."""
    if _packed_for_gdcm(dataset):
        try:
            return _by_gdcm(dataset)
        except RuntimeError:
            # A codec that GDCM lacks may be there for pydicom, which raises if it is not.
            return np.asarray(dataset.pixel_array)
    return _used_bits(dataset, np.asarray(dataset.pixel_array))


def _used_bits(dataset: Any, array: NDArray[Any]) -> NDArray[Any]:
    """The bits that hold the value: old files keep overlays in the others."""
    allocated, used = whole_of(dataset, "BitsAllocated"), whole_of(dataset, "BitsStored")
    if (
        array.dtype.kind not in "iu"
        or not allocated
        or not used
        or used >= allocated
        or allocated != array.itemsize * 8
    ):
        return array
    high = whole_of(dataset, "HighBit")
    above = allocated - 1 - (used - 1 if high is None else high)
    # Shifted to the top and back, a signed number keeps its sign.
    return (array << above) >> (allocated - used)


def _by_gdcm(dataset: Any) -> NDArray[Any]:
    """Unpacked by ITK's GDCM, from a file of the packed pixels alone, so that it neither scales nor sorts them."""
    library = pydicom_library()
    plain = library.Dataset()
    for name in _PIXELS:
        if name in dataset:
            plain[name] = dataset[name]
    plain.SOPClassUID = _SECONDARY_CAPTURE
    plain.SOPInstanceUID = library.uid.generate_uid(prefix=None)
    plain.file_meta = library.dataset.FileMetaDataset()
    plain.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    plain.file_meta.MediaStorageSOPClassUID = plain.SOPClassUID
    plain.file_meta.MediaStorageSOPInstanceUID = plain.SOPInstanceUID
    with tempfile.TemporaryDirectory(prefix="fewlabel-") as folder:
        file = Path(folder) / "pixels.dcm"
        plain.save_as(file, enforce_file_format=True)
        with gdcm(file):
            return np.asarray(sitk.GetArrayFromImage(sitk.ReadImage(str(file), imageIO="GDCMImageIO")))
