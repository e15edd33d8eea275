"""Paths of a catalog: of a file, of an array in a file, of what is composed of several files, or lies in DICOM."""

from __future__ import annotations

from pathlib import Path

from fewlabel.data.io.composite_paths import Stack, parse_composite
from fewlabel.data.io.dicom.address import DicomScan, parse_dicom
from fewlabel.data.io.dicom.data_set_index import open_archive
from fewlabel.data.io.file_names import lossless
from fewlabel.data.io.geometry import shown
from fewlabel.data.io.hdf5_and_npz_arrays import Address
from fewlabel.data.io.itk_image import file_stem

__all__ = ["files_behind", "is_file_path", "is_there", "mask_suffix", "recorded", "scan_stem", "shown"]


def files_behind(path: Path) -> tuple[Path, ...]:
    """The files on disk that a path of a catalog stands for."""
    if (address := Address.parse(path)) is not None:
        return address.files
    if (dicom := parse_dicom(path)) is not None:
        return open_archive(dicom.root).files_of(dicom)
    composite = parse_composite(path)
    return (path,) if composite is None else composite.files


def is_there(path: Path) -> bool:
    """Whether all files behind a path of a catalog are there."""
    files = files_behind(path)
    return bool(files) and all(file.is_file() for file in files)


def is_file_path(path: Path) -> bool:
    """Whether a path of a catalog is that of an ordinary file."""
    return Address.parse(path) is None and parse_dicom(path) is None and parse_composite(path) is None


def recorded(path: Path) -> str:
    """A path of a catalog as reports of predictions name it; of DICOM without the folder, which may name a person."""
    return str(path) if (dicom := parse_dicom(path)) is None else str(dicom)


def scan_stem(path: Path) -> str:
    """File name without its image suffix (``a.b.nii.gz`` → ``a.b``); of a row of slices also without their number."""
    if (address := Address.parse(path)) is not None:
        return address.stem
    if isinstance(dicom := parse_dicom(path), DicomScan):
        return dicom.scan
    composite = parse_composite(path)
    if composite is None:
        return file_stem(path)
    stem = file_stem(composite.files[0])
    numbered = isinstance(composite, Stack) and len(composite.files) > 1
    return stem.rstrip("0123456789").rstrip("_-. ") or stem if numbered else stem


def mask_suffix(path: Path) -> str:
    """Suffix of the file that the mask of a scan goes to: that of the scan, or the nearest that can hold a mask."""
    return lossless(path.name[len(scan_stem(path)) :].lower()) if is_file_path(path) else ".nii.gz"
