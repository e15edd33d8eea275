"""Paths of a catalog: of a file, of an array in a file, or of what is composed of several files."""

from __future__ import annotations

from pathlib import Path

from fewlabel.data.io.composite_paths import Stack, parse_composite
from fewlabel.data.io.file_names import lossless
from fewlabel.data.io.geometry import shown
from fewlabel.data.io.hdf5_and_npz_arrays import Address
from fewlabel.data.io.itk_image import file_stem

__all__ = ["files_behind", "is_file_path", "is_there", "mask_suffix", "scan_stem", "shown"]


def files_behind(path: Path) -> tuple[Path, ...]:
    """The files on disk that a path of a catalog stands for."""
    if (address := Address.parse(path)) is not None:
        return address.files
    composite = parse_composite(path)
    return (path,) if composite is None else composite.files


def is_there(path: Path) -> bool:
    """Whether all files behind a path of a catalog are there."""
    files = files_behind(path)
    return bool(files) and all(file.is_file() for file in files)


def is_file_path(path: Path) -> bool:
    """Whether a path of a catalog is that of an ordinary file."""
    return Address.parse(path) is None and parse_composite(path) is None


def scan_stem(path: Path) -> str:
    """File name without its image suffix (``a.b.nii.gz`` → ``a.b``); of a row of slices also without their number."""
    if (address := Address.parse(path)) is not None:
        return address.stem
    composite = parse_composite(path)
    if composite is None:
        return file_stem(path)
    stem = file_stem(composite.files[0])
    numbered = isinstance(composite, Stack) and len(composite.files) > 1
    return stem.rstrip("0123456789").rstrip("_-. ") or stem if numbered else stem


def mask_suffix(path: Path) -> str:
    """Suffix of the file that the mask of a scan goes to: that of the scan, or the nearest that can hold a mask."""
    return lossless(path.name[len(scan_stem(path)) :].lower()) if is_file_path(path) else ".nii.gz"
