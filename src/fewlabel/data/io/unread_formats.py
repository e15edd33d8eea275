"""What a file that does not look like a scan holds, by its first bytes and its suffix, and what to do about it."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from fewlabel.data.io.nifti_bytes import HEADER_BYTES, parse_header

#: What documents, settings and sidecars beside scans end in: passed over.
NO_IMAGE = re.compile(
    r"\.(txt|csv|tsv|jsonl?|parquet|xlsx?|ods|pdf|md|rst|html?|xml|ya?ml|toml|cfg|ini|log|list|docx?|pptx?|py|sh|m|r|"
    r"ipynb|bat|bvals?|bvecs?|tmp|bak|db|sqlite|lock|license|safetensors|pth|pt|onnx|ckpt|pkl|pickle|tfm|xfm|vtk|vtp|stl|"
    r"obj|ply|gii|surf|label|annot|mrml|acsv|fcsv|colors|ctbl|lut|md5|sha\d+|url|lnk|exe|dll|css|js|cff|bib|tex)(\.gz)?$",
    re.IGNORECASE,
)
_DICOM = (".dcm", ".dicom", ".ima", "dicomdir")
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".xz", ".zst")
#: Suffix → what reads and converts it.
CONVERTERS = {
    **dict.fromkeys((".mgz", ".mgh"), "mri_convert"),
    **dict.fromkeys((".mnc", ".minc"), "mnc2nii"),
    **dict.fromkeys((".par", ".rec"), "dcm2niix"),
    **dict.fromkeys((".mif", ".mih"), "mrconvert"),
}
#: Kinds that are treated by themselves.
DICOM, PACKED, UNKNOWN = "DICOM", "packed files", "files of the unknown format"
_HALVES = (".raw", ".zraw", ".img", ".img.gz", ".raw.gz")
_HEADERS = (".hdr", ".mhd", ".nhdr")
_DICOM_MAGIC_AT = 128
_GZIP = b"\x1f\x8b"


def why_unreadable(path: Path) -> tuple[str, str] | None:
    """What a file that does not look like a scan is, and what to do about it; None if it seems to hold no image."""
    name = path.name.lower()
    if NO_IMAGE.search(name) or (name.endswith(_HALVES) and _has_header(path)):
        return None
    if name.endswith(_HALVES):
        return "voxels without their header", "Put the header file (.hdr, .mhd, .nhdr) beside them"
    head = _head(path)
    if name.endswith(_DICOM) or head[_DICOM_MAGIC_AT : _DICOM_MAGIC_AT + 4] == b"DICM":
        return DICOM, "Give the folder of the DICOM files by itself, or reader=dicom"
    if _is_nifti(head):
        right = ".nii.gz" if head[:2] == _GZIP else ".nii"
        return f"NIfTI files without the suffix {right}", f"Rename them to end in {right}"
    return _by_suffix(path.suffix.lower(), head)


def _by_suffix(suffix: str, head: bytes) -> tuple[str, str] | None:
    if suffix in _ARCHIVES:
        return PACKED, "Unpack them"
    # Text of an unknown kind is no image; a picture format of text would not be one of medicine.
    if not suffix or (suffix not in CONVERTERS and b"\0" not in head):
        return None
    tool = f", for example with {CONVERTERS[suffix]}" if suffix in CONVERTERS else ""
    return f"{UNKNOWN} {suffix}", f"Convert them to NIfTI{tool}"


def _has_header(voxels: Path) -> bool:
    """Whether the other half of a pair is there: of the same name, or a header that names the file."""
    stem = voxels.name.removesuffix(".gz").rpartition(".")[0]
    if any(voxels.with_name(stem + header).is_file() for header in _HEADERS):
        return True
    headers = (other for other in voxels.parent.iterdir() if other.suffix.lower() in _HEADERS)
    return any(voxels.name.encode() in _head(header) for header in headers)


def _head(path: Path) -> bytes:
    """The first bytes of a file, enough for the header of a NIfTI file; empty if it cannot be read."""
    try:
        with path.open("rb") as stream:
            return stream.read(4 * HEADER_BYTES)
    except OSError:
        return b""


def _is_nifti(head: bytes) -> bool:
    if head[:2] == _GZIP:
        try:
            head = zlib.decompressobj(wbits=31).decompress(head, HEADER_BYTES)
        except (zlib.error, gzip.BadGzipFile):
            return False
    magic = head[344:348] in {b"n+1\0", b"ni1\0"} or head[4:8] in {b"n+2\0", b"ni2\0"}
    return magic and parse_header(head[:HEADER_BYTES]) is not None
