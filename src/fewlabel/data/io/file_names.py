"""Names of image files: which look like one, and what is left of them without their suffix."""

from __future__ import annotations

import os
from pathlib import Path

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.printable import is_utf8

SCAN_SUFFIXES = (
    ".nii.gz",
    ".nii",
    ".seg.nrrd",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".gipl",
    ".gipl.gz",
    ".hdr",
    ".tif",
    ".tiff",
    ".png",
    ".bmp",
    ".jpg",
    ".jpeg",
    ".gif",
)
PICTURE_SUFFIXES = (".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg", ".gif")
#: Of the half of a pair that is named by its other half.
_VOXEL_SUFFIXES = (".img.gz", ".img")
#: Of segmentations by 3D Slicer.
SEGMENTATION_SUFFIX = ".seg.nrrd"

#: Formats that cannot hold a mask in one lossless file → one of the same family that can.
_LOSSLESS = {
    ".jpg": ".png",
    ".jpeg": ".png",
    ".gif": ".png",
    ".mhd": ".mha",
    ".nhdr": ".nrrd",
    ".seg.nrrd": ".nrrd",
    ".hdr": ".nii",
    ".img": ".nii",
    ".img.gz": ".nii.gz",
}


def is_scan(path: Path) -> bool:
    """Whether a name looks like an image file; hidden files and macOS litter (``._*``) do not."""
    return not path.name.startswith(".") and named_as_scan(path)


def named_as_scan(path: Path) -> bool:
    """As :func:`is_scan`, for a file that somebody names: that may be hidden."""
    return any(path.name.lower().endswith(suffix) and len(path.name) > len(suffix) for suffix in SCAN_SUFFIXES)


def is_picture(path: Path) -> bool:
    """Whether a name is that of a PNG, JPEG, BMP, GIF or TIFF picture."""
    return path.name.lower().endswith(PICTURE_SUFFIXES)


def is_segmentation(path: Path) -> bool:
    """Whether a name is that of a segmentation by 3D Slicer."""
    return path.name.lower().endswith(SEGMENTATION_SUFFIX)


def file_stem(path: Path) -> str:
    """Name of a file without its image suffix: ``a.b.nii.gz`` → ``a.b``."""
    for suffix in (*SCAN_SUFFIXES, *_VOXEL_SUFFIXES):
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def lossless(suffix: str) -> str:
    """The suffix of a format, of the same family where there is one, that holds a mask in one file and as it is.

    Args:
        suffix: Of an image file, in lower case.

    Example:
        >>> lossless(".jpg"), lossless(".nii.gz")
        ('.png', '.nii.gz')
    """
    return _LOSSLESS.get(suffix, suffix)


def name_fault(path: Path) -> Fault | None:
    """What is wrong with the name of a file that is not valid UTF-8; ITK ends the process where it is given one.

    Args:
        path: Of a file, that need not be there.

    Returns:
        The fault; None for all other names.
    """
    if is_utf8(os.path.abspath(path)):  # noqa: PTH100  # Path.absolute keeps "..", which leads out of a folder
        return None
    if is_utf8(path.name):
        remedy = "Rename the folder, or give a link to it under another name"
        return Fault("lies in a folder whose name is not valid UTF-8", str(path), remedy)
    return Fault("has a name that is not valid UTF-8", str(path), "Rename it")


def check_name(path: Path) -> None:
    """Refuse a name that is not valid UTF-8.

    Raises:
        DataError: As :func:`name_fault` says.
    """
    if fault := name_fault(path):
        raise DataError("A file cannot be used:", [fault])
