"""Names of the images in packed files, without unpacking them."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from itertools import islice
from pathlib import Path, PurePosixPath

from fewlabel.data.io.itk_image import is_scan

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_SINGLE = (".gz", ".bz2", ".xz", ".zst")
#: Names that are looked at, and bytes of a compressed archive: it has to be read through.
_MOST_NAMES, _MOST_BYTES = 100_000, 1 << 26
_DICOM = (".dcm", ".dicom", ".ima")


def packed_images(path: Path) -> tuple[PurePosixPath, ...] | None:
    """The images in a packed file, as paths within it; none if it holds other things, None where nobody can tell.

    Of a single compressed file, such as ``x.mha.gz``, the name says what is in it. Archives that are damaged, large and
    compressed, or of a kind that only other programs read (rar, 7z) are not looked into.
    """
    name = path.name.lower()
    try:
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                return _images(archive.namelist()[:_MOST_NAMES])
        if name.endswith(_TARS):
            if not name.endswith(".tar") and path.stat().st_size > _MOST_BYTES:
                return None
            with tarfile.open(path) as archive:
                return _images([member.name for member in islice(archive, _MOST_NAMES) if member.isfile()])
    except (OSError, EOFError, ValueError, zlib.error, zipfile.BadZipFile, tarfile.TarError):
        return None
    if not name.endswith(_SINGLE):
        return None
    inner = path.name[: -len(path.suffix)]
    return _images([inner]) if PurePosixPath(inner).suffix else None


def _images(names: list[str]) -> tuple[PurePosixPath, ...]:
    paths = [PurePosixPath(name) for name in names if not name.endswith("/") and not name.startswith("__MACOSX/")]
    return tuple(
        path
        for path in paths
        if not path.name.startswith(".") and (is_scan(Path(path.name)) or path.name.lower().endswith(_DICOM))
    )
