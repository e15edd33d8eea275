"""What a file is by its content, held against what its name says."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from pathlib import Path

from fewlabel.data.io.dicom_faults import is_dicom
from fewlabel.data.io.gipl_header import HEADER_BYTES as GIPL_BYTES
from fewlabel.data.io.nifti_bytes import HEADER_BYTES, is_nifti
from fewlabel.data.io.nrrd_header import MAGIC as NRRD_MAGIC
from fewlabel.data.io.picture_header import BMP, GIF, JPEG, PNG, TIFF

NIFTI, NRRD, META, GIPL, GZIP, DICOM, HDF5, EMPTY, OTHER = (
    "NIfTI", "NRRD", "MetaImage", "GIPL", "gzip", "DICOM", "HDF5", "empty", "other"
)  # fmt: skip
__all__ = ["BMP", "GIF", "JPEG", "PNG", "TIFF", "Contents", "kind_of", "look_into", "named_kind"]
PICTURES = (PNG, JPEG, BMP, TIFF, GIF)
#: What the end of a name says the content is.
_NAMED = {
    ".nii.gz": NIFTI, ".nii": NIFTI, ".hdr": NIFTI, ".hdr.gz": NIFTI, ".img": NIFTI, ".img.gz": NIFTI,
    ".nrrd": NRRD, ".nhdr": NRRD, ".mha": META, ".mhd": META, ".gipl.gz": GIPL, ".gipl": GIPL,
    ".tif": TIFF, ".tiff": TIFF, ".png": PNG, ".bmp": BMP, ".jpg": JPEG, ".jpeg": JPEG, ".gif": GIF,
}  # fmt: skip
_SUFFIX = {NIFTI: ".nii", NRRD: ".nrrd", META: ".mha", GIPL: ".gipl", PNG: ".png", JPEG: ".jpg", BMP: ".bmp",
           TIFF: ".tif", GIF: ".gif"}  # fmt: skip
_STARTS = (
    (b"\x1f\x8b", GZIP), (NRRD_MAGIC, NRRD), (b"\x89PNG\r\n\x1a\n", PNG), (b"\xff\xd8\xff", JPEG), (b"BM", BMP),
    (b"II*\0", TIFF), (b"MM\0*", TIFF), (b"II+\0", TIFF), (b"MM\0+", TIFF), (b"GIF87a", GIF), (b"GIF89a", GIF),
    (b"\x89HDF\r\n\x1a\n", HDF5),
)  # fmt: skip
_STRANGERS = (
    (b"PK\x03\x04", "is a zip archive", "Unpack it"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself", "Fetch it with git lfs pull"),
    (b"/annex/objects", "is a git-annex pointer, not the file itself", "Fetch it with git annex get"),
    (b"<!doctype html", "is a web page, not a scan", "Download the file itself"),
    (b"<html", "is a web page, not a scan", "Download the file itself"),
)
_BYTES = max(HEADER_BYTES, 1024)


@dataclass(frozen=True)
class Contents:
    """What a file is.

    Attributes:
        kind: By its content: one of the formats, ``DICOM``, ``empty`` or ``other``; inside of a gzip file if it is one.
        packed: Whether it is a gzip file.
        problem: Why it cannot be what its name says, or empty.
        remedy: What to do about it.
    """

    kind: str
    packed: bool = False
    problem: str = ""
    remedy: str = ""


def look_into(path: Path) -> Contents:
    """What a file is by its first bytes.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        start = stream.read(_BYTES)
    if start and path.name.lower().endswith((".img", ".img.gz")):
        # Nothing but voxels, which may begin as any other file does.
        return Contents(NIFTI, packed=path.name.lower().endswith(".gz"))
    if not start:
        return Contents(EMPTY, problem="is empty: it has 0 bytes", remedy="Copy or download it again")
    for mark, problem, remedy in _STRANGERS:
        if start[:200].lstrip().lower().startswith(mark.lower()):
            return Contents(OTHER, problem=problem, remedy=remedy)
    kind = kind_of(start)
    packed = kind == GZIP
    if packed:
        kind = kind_of(_inside(start, path))
    if kind == OTHER and not packed and named_kind(path) == META:
        # ITK goes by the name, and its lines may be in any order.
        kind = META
    problem, remedy = _misnamed(path, kind, packed=packed)
    return Contents(kind, packed, problem, remedy)


def kind_of(start: bytes) -> str:
    """The format of content that begins with ``start``."""
    kind = next((kind for mark, kind in _STARTS if start.startswith(mark)), OTHER)
    if kind != OTHER:
        return kind
    if is_dicom(start):
        return DICOM
    if is_nifti(start):
        return NIFTI
    text = start[:400].lower()
    if text.lstrip().startswith((b"objecttype", b"ndims", b"comment")) and b"=" in text:
        return META
    return GIPL if len(start) >= GIPL_BYTES and start[252:256] in (b"\xef\xff\xe9\xb0", b"\x2a\xe3\x89\xb8") else OTHER


def named_kind(path: Path) -> str:
    """The format that the name of a file says, or empty."""
    name = path.name.lower()
    return next((kind for suffix, kind in _NAMED.items() if name.endswith(suffix)), "")


def _inside(start: bytes, path: Path) -> bytes:
    """The first unpacked bytes of a gzip file, or none where it is damaged: that is said where it is read through."""
    try:
        return zlib.decompressobj(47).decompress(start, _BYTES)
    except zlib.error:
        try:
            with gzip.open(path) as stream:
                return stream.read(_BYTES)
        except (OSError, EOFError, zlib.error):
            return b""


def _misnamed(path: Path, kind: str, *, packed: bool) -> tuple[str, str]:
    name, named = path.name.lower(), named_kind(path)
    ends_packed = name.endswith(".gz")
    if kind in (DICOM, OTHER, HDF5) and (kind != OTHER or not packed or ends_packed):
        return "", ""
    suffix = _SUFFIX.get(kind, "") + (".gz" if packed else "")
    right = f"Rename it to {_bare(path)}{suffix}" if kind in _SUFFIX else "Unpack it, or name it by its format"
    pair = kind == NIFTI and name.endswith((".hdr", ".img", ".hdr.gz", ".img.gz"))
    if packed and not ends_packed:
        inside = f" of {kind}" if kind in _SUFFIX else ""
        means = f"its name ends in {path.suffix}" if path.suffix else "its name has no suffix"
        right = f"Rename it to {path.name}.gz" if pair or kind == OTHER else right
        return f"is a gzip file{inside}, though {means}", right
    if not packed and ends_packed and (kind in _SUFFIX):
        return f"is a {kind} file that is not packed, though its name ends in .gz", right
    if kind in _SUFFIX and named != kind and not (kind in PICTURES and named in PICTURES):
        means = f"says {named}" if named else "does not say so"
        return f"is a {kind} file, though its name {means}", right
    return "", ""


def _bare(path: Path) -> str:
    name = path.name
    for suffix in (*sorted(_NAMED, key=len, reverse=True), ".gz"):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name
