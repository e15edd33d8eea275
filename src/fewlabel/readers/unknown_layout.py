"""What to say of a folder or file that no reader knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fewlabel.core.errors import Fault
from fewlabel.data.io.itk_image import SCAN_SUFFIXES, is_scan
from fewlabel.data.io.unread_formats import PACKED, why_unreadable
from fewlabel.data.mask_names import is_mask_name
from fewlabel.readers.image_names import understood
from fewlabel.readers.listing import files_below

if TYPE_CHECKING:
    from fewlabel.readers.base import Match

#: Suffix → what files of it are called.
_KINDS = {
    ".nii.gz": "NIfTI",
    ".nii": "NIfTI",
    ".hdr": "NIfTI",
    ".nrrd": "NRRD",
    ".nhdr": "NRRD",
    ".mha": "MetaImage",
    ".mhd": "MetaImage",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".h5": "HDF5",
    ".npz": "npz",
    ".dcm": "DICOM",
}
_MOST_KINDS = 5
#: A longer suffix is a part of the name.
_LONGEST = 6
#: Formats of masks that people have and that are not read.
_UNREADABLE = (".gif", ".ppm", ".pgm", ".webp", ".svs", ".mat", ".npy")


def unknown_layout(root: Path, matches: Mapping[str, Match]) -> Fault:
    """What was seen at a path, the layout that is nearest to it with what is missing, and how to write a table of it.

    Args:
        root: Folder or file.
        matches: Of every reader.
    """
    nearest = max(matches, key=lambda name: (matches[name].score, name))
    near = ""
    if matches[nearest].score > 0:
        near = f". The nearest layout is that of {nearest}: {'; '.join(matches[nearest].reasons)}"
    if root.is_file():
        remedy = "Give a folder of scans, or a table with a column image"
    elif any(is_scan(path) for path in files_below(root)):
        remedy = f"Write a table of it with `fewlabel table {root} > scans.csv`, complete it and give that"
    elif any((why_unreadable(root / path) or ("",))[0] == PACKED for path in files_below(root)):
        remedy = "Unpack its packed files"
    elif unread := {path.suffix.lower() for path in files_below(root)} & set(_UNREADABLE):
        remedy = f"Convert its images, since {', '.join(sorted(unread))} is not read: pictures to PNG, volumes to NIfTI"
    elif any(path.suffix.lower() == ".dcm" for path in files_below(root)):
        remedy = "Its .dcm files do not begin as DICOM does: are they complete?"
    else:
        remedy = "Give the folder that holds the scans"
    return Fault(f"Unknown layout: {_seen(root)}{near}", remedy=remedy)


def _seen(root: Path) -> str:
    if root.is_file():
        return f"a file {root.name}"
    files = files_below(root)
    kinds = Counter(_kind(path) for path in files)
    if not kinds:
        return "no files"
    shown = [f"{count} {kind} file{'s' * (count != 1)}" for kind, count in kinds.most_common(_MOST_KINDS)]
    more = sum(count for _, count in kinds.most_common()[_MOST_KINDS:])
    parts = [*shown, *([f"{more} others"] if more else [])]
    scans = [understood(path) for path in files if is_scan(path)]
    words = Counter(scan.word for scan in scans if scan.mask)
    others = [path for path in files if path.suffix.lower() in _UNREADABLE and not is_scan(path)]
    unreadable = [path for path in others if is_mask_name(path, Path())]
    if unreadable:
        kind = f"{_kind(unreadable[0])} files, which are not read: save them in another format"
        parts.append(f"{len(unreadable)} masks by name or folder are {kind}")
    if words:
        named = ", ".join(f"{count} by {word}" for word, count in words.most_common(3))
        parts.append(f"of which {words.total()} are masks by name or folder ({named})")
    elif scans:
        parts.append("none of them a mask by name or folder")
    return ", ".join(parts)


def _kind(path: Path) -> str:
    low = path.name.lower()
    suffix = next((suffix for suffix in SCAN_SUFFIXES if low.endswith(suffix)), path.suffix.lower())
    plain = suffix.lstrip(".").upper()
    return _KINDS.get(suffix, plain if 0 < len(plain) <= _LONGEST and not plain.isdigit() else "other")
