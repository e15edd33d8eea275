"""Files that are no scans to us and yet hold images: each kind with its reason and what to do about it."""

from __future__ import annotations

import gzip
import re
import zlib
from collections import defaultdict
from collections.abc import Set
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.itk_image import is_scan
from fewlabel.data.io.nifti_bytes import HEADER_BYTES, parse_header
from fewlabel.data.mask_names import is_mask_name
from fewlabel.stages.predict.listing import Listing

#: What documents, settings and sidecars beside scans end in: passed over.
_NO_IMAGE = re.compile(
    r"\.(txt|csv|tsv|jsonl?|parquet|xlsx?|ods|pdf|md|rst|html?|xml|ya?ml|toml|cfg|ini|log|list|docx?|pptx?|py|sh|m|r|"
    r"ipynb|bat|bvals?|bvecs?|tmp|bak|db|sqlite|lock|license|safetensors|pth|pt|onnx|ckpt|pkl|pickle|tfm|xfm|vtk|vtp|stl|"
    r"obj|ply|gii|surf|label|annot|mrml|acsv|fcsv|colors|ctbl|lut|md5|sha\d+|url|lnk|exe|dll|css|js|cff|bib|tex)(\.gz)?$",
    re.IGNORECASE,
)
_DICOM = (".dcm", ".dicom", ".ima", "dicomdir")
_PACKED = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".bz2", ".xz", ".zst")
#: Suffix → what reads and converts it.
_TOOLS = {
    **dict.fromkeys((".mgz", ".mgh"), "mri_convert"),
    **dict.fromkeys((".mnc", ".minc"), "mnc2nii"),
    **dict.fromkeys((".par", ".rec"), "dcm2niix"),
    **dict.fromkeys((".mif", ".mih"), "mrconvert"),
}
DICOM = "DICOM"
_HALVES = (".raw", ".zraw", ".img", ".img.gz", ".raw.gz")
_HEADERS = (".hdr", ".mhd", ".nhdr")
_MOST_NAMED = 3
_DICOM_MAGIC_AT = 128
_GZIP = b"\x1f\x8b"


def unreadable_faults(listing: Listing, understood: Set[str], root: Path, *, private: bool = False) -> list[Fault]:
    """One fault for each reason why files of a folder cannot be read, with their number and first names.

    Files that look like scans are not looked at: each is tried, and fails by itself.

    Args:
        listing: Of the folder.
        understood: Suffixes of files that a reader knows.
        root: The folder, for masks by the names of its folders: dangling links of these do not count.
        private: Whether names of files may be those of persons, so that none is said; the reader of the folder is then
            that of DICOM, and has said what it could not read of that.
    """
    kinds: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in listing.files:
        if is_scan(path) or path.suffix.lower() in understood or is_mask_name(path, root):
            continue
        if (kind := why_unreadable(path)) is not None and not (private and kind[0] == DICOM):
            kinds[kind].append(path)
    for path in listing.dangling:
        if not _NO_IMAGE.search(path.name) and not is_mask_name(path, root):
            kinds["links that lead to nothing", "Restore what they point to, or remove them"].append(path)
    for folder, why in ({} if private else listing.closed).items():
        kinds[f"folders that cannot be listed ({why})", "Allow reading them, or move them away"].append(folder)
    return [
        Fault(f"{len(paths)} not read, {problem}{_named(paths, private=private or problem == DICOM)}", remedy=remedy)
        for (problem, remedy), paths in kinds.items()
    ]


def why_unreadable(path: Path) -> tuple[str, str] | None:
    """What a file that does not look like a scan is, and what to do about it; None if it seems to hold no image."""
    name = path.name.lower()
    if _NO_IMAGE.search(name) or (name.endswith(_HALVES) and _has_header(path)):
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
    if suffix in _PACKED:
        return "packed files", "Unpack them"
    # Text of an unknown kind is no image; a picture format of text would not be one of medicine.
    if not suffix or (suffix not in _TOOLS and b"\0" not in head):
        return None
    tool = f", for example with {_TOOLS[suffix]}" if suffix in _TOOLS else ""
    return f"files of the unknown format {suffix}", f"Convert them to NIfTI{tool}"


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


def _named(paths: list[Path], *, private: bool) -> str:
    """Names after a colon; none where they may be those of persons."""
    if private:
        return ""
    shown = ", ".join(str(path) for path in paths[:_MOST_NAMED])
    return f": {shown}" + (f" and {len(paths) - _MOST_NAMED} more" if len(paths) > _MOST_NAMED else "")


def no_image_file(path: Path) -> Fault:
    """What keeps a single file from being a scan."""
    if path.is_symlink() and not path.exists():
        return Fault(f"{path} is a link that leads to nothing", remedy="Restore what it points to")
    kind = why_unreadable(path)
    if kind is None:
        return Fault(
            f"{path} is no image file", remedy="Give a scan, a folder of scans, or a table with an image column"
        )
    return Fault(f"{path} cannot be read ({kind[0]})", remedy=kind[1])
