"""DICOM files where an image file belongs: what they are, and how many of their series lie beside them."""

from __future__ import annotations

import locale
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import SimpleITK as sitk  # noqa: N813  # the name its own manual uses

from fewlabel.core.errors import Fault
from fewlabel.data.io.itk_log import reading

_LOOKED_AT = 20
_MODALITY, _SERIES = "0008|0060", "0020|000e"
_KINDS = {
    "SEG": "a DICOM segmentation (SEG)",
    "RTSTRUCT": "a DICOM structure set of contours (RTSTRUCT)",
    "RTDOSE": "a DICOM dose (RTDOSE)",
    "RTPLAN": "a DICOM treatment plan (RTPLAN)",
    "SR": "a DICOM report (SR)",
    "PR": "a DICOM presentation state (PR)",
}
_FOLDER = (
    "DICOM is read as a whole: give the folder of all its files as the data. Where an image file is wanted, as in a "
    "table, convert the series, with dcm2niix for example"
)
#: Of this process, as it was before GDCM was asked for the first time.
_ENCODING = locale.setlocale(locale.LC_CTYPE)


def is_dicom(start: bytes) -> bool:
    """Whether content that begins with ``start`` is DICOM."""
    return start[128:132] == b"DICM"


def dicom_fault(path: Path) -> Fault:
    """What is wrong with a DICOM file given as an image file of a scan or a mask."""
    modality, series = _tags(path)
    if modality in _KINDS:
        return Fault(f"is {_KINDS[modality]}, which is no image file", str(path), _FOLDER)
    files = _series_files(path.parent, series) if series else 1
    if files > 1:
        problem = f"is one DICOM file of a series of {files} in {path.parent}: one slice, not the scan"
    else:
        problem = "is a DICOM file, which is no image file of a scan"
    return Fault(problem, str(path), _FOLDER)


def folder_fault(folder: Path) -> Fault:
    """What is wrong with a folder given as an image file of a scan or a mask."""
    files = [path for path in folder.iterdir() if path.is_file()]
    series = sum(_has_mark(path) for path in files[:_LOOKED_AT])
    if not series:
        return Fault("is a folder, not a file", str(folder), "Name the file of the scan")
    return Fault(f"is a folder of {len(files)} files of DICOM, which is no image file", str(folder), _FOLDER)


def _has_mark(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_dicom(stream.read(132))


@contextmanager
def gdcm(path: Path) -> Iterator[None]:
    """For calls of GDCM, which leaves the whole process with the encoding of plain C: what it was comes back."""
    try:
        with reading(path):
            yield
    finally:
        if locale.setlocale(locale.LC_CTYPE) != _ENCODING:
            locale.setlocale(locale.LC_CTYPE, _ENCODING)


def _tags(path: Path) -> tuple[str, str]:
    """Modality and series of a file; empty where they cannot be read."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("GDCMImageIO")
    try:
        with gdcm(path):
            reader.ReadImageInformation()
            kept = {key: reader.GetMetaData(key).strip(" \0") for key in reader.GetMetaDataKeys()}
        return kept.get(_MODALITY, ""), kept.get(_SERIES, "")
    except RuntimeError:
        # GDCM reads no header of what is no image, such as contours: the tag is sought as text.
        with path.open("rb") as stream:
            start = stream.read(1 << 16)
        at = start.find(b"\x08\x00\x60\x00")
        if at < 0:
            return "", ""
        # With its type the length has two bytes, without it four.
        length = start[at + 6 : at + 8] if start[at + 4 : at + 6] == b"CS" else start[at + 4 : at + 8]
        return start[at + 8 : at + 8 + min(16, int.from_bytes(length, "little"))].decode("ascii", "replace").strip(
            " \0"
        ), ""


@lru_cache(maxsize=256)
def _series_files(folder: Path, series: str) -> int:
    with gdcm(folder):
        return len(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series))
