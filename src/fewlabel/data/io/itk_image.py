"""One image file as SimpleITK reads it: SimpleITK decides the geometry, where the file's own header does not forbid."""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.core.named_files import file_is_there
from fewlabel.data.io import file_type_detection
from fewlabel.data.io.dicom_faults import dicom_fault, folder_fault
from fewlabel.data.io.file_integrity import (
    REMEMBERED,
    Examined,
    Stamps,
    all_finite,
    examine,
    restore_not_finite,
    stamps_of,
)
from fewlabel.data.io.file_names import SCAN_SUFFIXES, check_name, file_stem, is_picture, is_scan
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.io.itk_geometry import geometry_of, picture_geometry
from fewlabel.data.io.itk_log import reading
from fewlabel.data.io.nibabel_image import nibabel_grid, nibabel_image
from fewlabel.data.io.nrrd_header import nrrd_stored, raw_copy, read_nrrd_header
from fewlabel.data.io.picture_decoding import by_itk, decode
from fewlabel.data.io.shear import straighten

__all__ = [
    "SCAN_SUFFIXES", "checked", "colours_of", "file_stem", "geometry_in", "is_scan", "read_channels", "read_header",
    "read_image", "restored",
]  # fmt: skip


def read_header(path: Path) -> Geometry:
    """Geometry from the header; a packed file is read through once to see whether it is undamaged.

    Raises:
        DataError: If the file is missing, incomplete, damaged, unreadable, not a 2D to 4D image, or its axes are
            sheared by more than :data:`fewlabel.data.io.shear.MOST_DEGREES`.
    """
    facts = checked(path)
    if facts.picture is not None and not by_itk(facts.picture):
        return picture_geometry(facts.picture)
    return _header(path, stamps_of(path))


@lru_cache(maxsize=REMEMBERED)
def _header(path: Path, stamps: Stamps) -> Geometry:
    """What ITK says of a file that did not change since; the look, colours and duplicates all ask for it."""
    del stamps
    facts = checked(path)
    if facts.nifti2:
        return geometry_of(path, nibabel_grid(path), facts)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _reading_faults(path):
        try:
            reader.ReadImageInformation()
        except RuntimeError as error:
            if not _is_sheared(facts, error):
                raise
            return geometry_of(path, nibabel_grid(path), facts)
    geometry = geometry_of(path, reader, facts)
    return replace(geometry, blank=_blank(path)) if facts.picture is not None and facts.picture.floats else geometry


def read_channels(path: Path, frame: int | None = None) -> tuple[NDArray[np.float32], Geometry]:
    """Intensities (channels, z, y, x) of a file and where they lie; the 4th axis of a file becomes channels.

    Voxels of NIfTI files that are not finite are NaN. Of a file with sheared axes, the voxels are those of the nearest
    grid at right angles.

    Args:
        path: The file.
        frame: Channel to read of a 4D image, from 0; None for all.

    Raises:
        DataError: As :func:`read_header`, or if it does not fit into memory.
    """
    image = read_image(path) if frame is None or _whole(path) else _read_frame(path, frame)
    geometry = geometry_in(path, image)
    array = straighten(restored(path, _channels(path, image)), geometry, mask=False)
    return (array if frame is None or len(array) == 1 else array[frame : frame + 1].copy()), geometry


def read_image(path: Path, *, indices: bool = False) -> Any:
    """The SimpleITK image in a file, on the grid that the file has.

    Args:
        path: The file.
        indices: Whether it is a mask; see :func:`fewlabel.data.io.picture_decoding.decode`.

    Raises:
        DataError: If it is missing or unreadable, or does not fit into memory.
    """
    facts = checked(path)
    picture = facts.picture
    if picture is not None and not by_itk(picture):
        array = decode(path, picture, indices=indices)
        return sitk.GetImageFromArray(array, isVector=array.ndim > 2 + (picture.pages > 1))
    if facts.nifti2:
        return nibabel_image(path)
    with _reading_faults(path):
        if facts.kind == file_type_detection.NRRD and (unpacked := _bzip2(path)) is not None:
            return unpacked
        try:
            return sitk.ReadImage(str(path))
        except RuntimeError as error:
            if not _is_sheared(facts, error):
                raise
            return nibabel_image(path)


def geometry_in(path: Path, image: Any) -> Geometry:
    """Where the voxels of an image lie that :func:`read_image` has read.

    Raises:
        DataError: As :func:`read_header`.
    """
    facts = checked(path)
    if facts.picture is not None and not by_itk(facts.picture):
        return picture_geometry(facts.picture)
    return geometry_of(path, image, facts)


def colours_of(path: Path) -> int:
    """Values per voxel of an image in colours of 8 bits; 1 for others, and where it cannot be read."""
    if is_picture(path):
        try:
            picture = checked(path).picture
        except DataError:
            return 1
        return 1 if picture is None else picture.channels
    try:
        return _colours(path, stamps_of(path))
    except OSError:
        return 1


@lru_cache(maxsize=REMEMBERED)
def _colours(path: Path, stamps: Stamps) -> int:
    del stamps
    header = header_if_readable(path)
    coloured = header is not None and header.GetPixelID() == sitk.sitkVectorUInt8
    return int(header.GetNumberOfComponents()) if coloured else 1


def header_if_readable(path: Path) -> Any:
    """ITK's reader with the header of a file; None where it cannot be read, which reading all of it will say."""
    try:
        # ITK itself does not survive every header.
        checked(path)
    except DataError:
        return None
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        with reading(path):
            reader.ReadImageInformation()
    except RuntimeError:
        return None
    return reader


def _gone(path: Path) -> Fault:
    problem = f"no such file: it is a link to {path.readlink()}" if path.is_symlink() else "no such file"
    return Fault(problem, str(path), "Restore it, or take its scan out")


def checked(path: Path) -> Examined:
    """What a look at the bytes of a file says, where it may be read.

    Raises:
        DataError: With all that is wrong with it.
    """
    check_name(path)
    if not file_is_there(path):
        raise DataError("A file cannot be read:", [folder_fault(path) if path.is_dir() else _gone(path)])
    try:
        facts = examine(path)
    except OSError as error:
        fault = Fault(f"cannot be read ({reason(error)})", str(path), "Check its permissions and its disk")
        raise DataError("A file cannot be read:", [fault]) from error
    if facts.kind == file_type_detection.DICOM:
        raise DataError("A file cannot be read:", [dicom_fault(path)])
    if facts.problems:
        faults = [Fault(problem, str(path), remedy) for problem, remedy in facts.problems]
        raise DataError("A file cannot be read:", faults)
    return facts


def _blank(path: Path) -> tuple[int, ...]:
    """Channels without a finite value, of a file whose voxels only ITK can unpack."""
    channels = _channels(path, read_image(path))
    return tuple(number for number, channel in enumerate(channels) if not np.isfinite(channel).any())


def _bzip2(path: Path) -> Any:
    """The image in an NRRD that is packed as ITK cannot unpack it; None for others."""
    header = read_nrrd_header(path)
    stored = None if header is None else nrrd_stored(header)
    if header is None or stored is None or stored.parts[0].packing != "bzip2":
        return None
    with tempfile.TemporaryDirectory(prefix="fewlabel-") as folder:
        return sitk.ReadImage(str(raw_copy(header, stored, Path(folder))))


def _whole(path: Path) -> bool:
    """Whether an image is to be read as a whole, though one of its frames is asked for."""
    return not all_finite(path) or examine(path).nifti2


def _is_sheared(facts: Examined, error: RuntimeError) -> bool:
    return facts.kind == file_type_detection.NIFTI and "orthonormal" in str(error)


def _read_frame(path: Path, frame: int) -> Any:
    """One time point of a 4D image, without the others in memory; anything else whole."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _reading_faults(path):
        try:
            reader.ReadImageInformation()
            size = reader.GetSize()
        except RuntimeError as error:
            if not _is_sheared(checked(path), error):
                raise
            size = ()
        if len(size) == 4:
            reader.SetExtractSize([*size[:3], 0])
            reader.SetExtractIndex([0, 0, 0, frame])
            return reader.Execute()
    return read_image(path)


class _reading_faults:  # noqa: N801  # used as a statement: with _reading_faults(path)
    """Turns what ITK raises on a bad file into a DataError that names it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.inner = reading(self.path)

    def __enter__(self) -> None:
        self.inner.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.inner.__exit__(None, None, None)
        if isinstance(error, RuntimeError):
            # Where an object lay in memory says nothing, and differs each time.
            told = re.sub(r"\s?\(0x[0-9a-fA-F]+\)", "", str(error))
            lines = [line.strip() for line in told.splitlines() if line.strip()]
            # ITK closes with the operating system's last error, which is often about something else.
            lines = [line for line in lines if not line.startswith("Reason:")] or lines
            remedy = "Check that the file is complete and in the format of its suffix"
            if "change spacing" in lines[-1]:
                remedy = "Voxel sizes must be positive numbers: correct its header"
            fault = Fault(f"cannot be read by ITK ({lines[-1].rstrip('.')})", str(self.path), remedy)
            raise DataError("A file cannot be read:", [fault]) from error


def _channels(path: Path, image: Any) -> NDArray[np.float32]:
    array = np.asarray(sitk.GetArrayViewFromImage(image))
    if array.dtype.kind == "c":
        fault = Fault("holds complex numbers", str(path), "Store their magnitude")
        raise DataError("A file cannot be read:", [fault])
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    elif image.GetDimension() < 4:
        array = array[None]
    if image.GetDimension() == 2:
        array = array[:, None]
    if array.dtype == np.float32 and array.flags.c_contiguous:
        return np.asarray(_Voxels(image, array))
    return np.array(array, dtype=np.float32, order="C")


class _Voxels:
    """The voxels of an image as NumPy takes them over without a copy; the image lives as long as they do."""

    def __init__(self, image: Any, view: NDArray[Any]) -> None:
        self._image = image
        address, _ = view.__array_interface__["data"]
        # Nobody else has the image: its voxels may be written to.
        self.__array_interface__ = {**view.__array_interface__, "data": (address, False)}


def restored(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """Values of a file with NaN where the file holds no finite number and ITK says 0."""
    try:
        return restore_not_finite(path, array)
    except (OSError, ValueError) as error:
        problem = f"has voxels that are not finite, and they cannot be located ({reason(error)})"
        fault = Fault(problem, str(path), "Store finite numbers")
        raise DataError("A file cannot be read:", [fault]) from error
