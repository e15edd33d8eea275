"""Whether a file is what its name says, all there and undamaged: ITK reads many that are not without complaint."""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.memory_limit import too_large
from fewlabel.data.io import file_type_detection
from fewlabel.data.io.file_type_detection import Contents, look_into
from fewlabel.data.io.files_named_in_files import REMEDY, outside_problem
from fewlabel.data.io.gipl_header import gipl_stored
from fewlabel.data.io.metaimage_header import metaimage_stored
from fewlabel.data.io.nifti_bytes import (
    first_bytes,
    header_file,
    is_packed,
    put_back_not_finite,
    read_header,
    read_through,
    voxel_file,
    wrong_length,
)
from fewlabel.data.io.nifti_grid import nifti_problems
from fewlabel.data.io.nrrd_header import nrrd_stored, read_nrrd_header
from fewlabel.data.io.picture_header import Picture, read_picture
from fewlabel.data.io.stored_voxel_checks import (
    HARMLESS,
    Stored,
    beyond_deflate,
    falls_short,
    read_stored,
    too_many_components,
)

#: Files whose answer is remembered: those of a large data set, a few hundred bytes each.
REMEMBERED = 1 << 16
#: Of each file: size in bytes, device, node, and the times in ns at which content and node changed.
Stamps = tuple[tuple[int, ...], ...]
_COPY = "Copy or download it again"
_RIGHT = "Is its header right? If it is, use a machine with more memory"


@dataclass(frozen=True)
class Examined:
    """What a look at a file's bytes says.

    Attributes:
        kind: The format of its content, as in :mod:`fewlabel.data.io.file_type_detection`.
        problems: Why it cannot be used, and what to do about each.
        missing: What keeps it from being complete and undamaged, or empty; also among the problems.
        finite: Whether all values are finite numbers, as far as that was looked at.
        blank: Channels without a finite value, as far as that was looked at.
        picture: Its header if it is a PNG, JPEG, BMP, GIF or TIFF.
        nifti2: Whether it is NIfTI of the second version.
    """

    kind: str
    problems: tuple[tuple[str, str], ...] = ()
    missing: str = ""
    finite: bool = True
    blank: tuple[int, ...] = ()
    picture: Picture | None = None
    nifti2: bool = False


def examine(path: Path) -> Examined:
    """What a look at a file's bytes says.

    What its header promises is held against what is there, in this file or those that it names; a packed file is read
    through once, so that its checksums are compared, and so are files of floating-point numbers, for values that are
    none. A file that did not change since is not read again.

    Raises:
        OSError: If it cannot be opened or read.
    """
    return _examined(path, stamps_of(path))


def stamps_of(path: Path) -> Stamps:
    """What changes with the content of a file, of itself and of those beside it that its voxels lie in.

    Raises:
        OSError: If one of them cannot be looked at.
    """
    stamps = []
    for file in _all_files(path):
        facts = file.stat()
        stamps.append((facts.st_size, facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns))
    return tuple(stamps)


def all_finite(path: Path) -> bool:
    """Whether all values of a file are finite numbers, as far as that was looked at.

    Raises:
        OSError: If it cannot be opened or read.
    """
    return examine(path).finite


def restore_not_finite(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """What ITK read of a file, with NaN where a NIfTI file of floating-point numbers holds no finite number.

    ITK's NIfTI library hands such voxels over as 0, which is a bright value in a CT.

    Args:
        path: The file; others than NIfTI, and files whose values are all finite, are not read again.
        array: Its values in the order of the file (channels, z, y, x), the last index running fastest.

    Returns:
        The array, or a copy of it if something was restored.

    Raises:
        OSError: If the file cannot be opened or read.
        ValueError: If the array has another size than the header says.
    """
    facts = examine(path)
    own = header_file(path)
    if facts.finite or facts.kind != file_type_detection.NIFTI or own is None or (header := read_header(own)) is None:
        return array
    restored = np.array(array, order="C")
    put_back_not_finite(voxel_file(own), header, restored)
    return restored


def _all_files(path: Path) -> list[Path]:
    """The file, and those beside it that its voxels lie in."""
    own = header_file(path)
    files = [path] if own is None else [path, own, voxel_file(own)]
    if path.name.lower().endswith((".nhdr", ".mhd")):
        stored = _stored(path, look_into(path))
        files.extend(part.file for part in (stored.parts if stored else ()) if part.file.is_file())
    return list(dict.fromkeys(files))


@lru_cache(maxsize=REMEMBERED)
def _examined(path: Path, stamps: Stamps) -> Examined:
    """What :func:`examine` says.

    Args:
        path: The file.
        stamps: The size of each of its files in bytes, and what else changes with their content.
    """
    del stamps
    content = look_into(path)
    if content.problem:
        return Examined(content.kind, ((content.problem, content.remedy),))
    try:
        if content.kind == file_type_detection.NIFTI:
            return _nifti(path)
        return _picture(path, content) if content.kind in file_type_detection.PICTURES else _other(path, content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        missing = f"damaged gzip content ({error})"
        return Examined(content.kind, _damage(missing), missing)


def _picture(path: Path, content: Contents) -> Examined:
    picture = read_picture(path, content.kind)
    problems = _damage(picture.missing)
    if not problems and (large := too_large(needed(picture.unpacked, picture.values))):
        problems = ((large, _RIGHT),)
    if not problems and picture.uneven:
        # ITK would read all by the size of the first.
        problems = ((picture.uneven, "Store pages of one size, or one picture a file"),)
    if picture.kind == file_type_detection.TIFF and picture.orientation != 1:
        turned = f"its orientation tag {picture.turn}, and of TIFF files that is not followed"
        problems = (*problems, (turned, "Store it upright and without the tag"))
    return Examined(content.kind, problems, picture.missing, picture=picture)


def _other(path: Path, content: Contents) -> Examined:
    header = read_nrrd_header(path) if content.kind == file_type_detection.NRRD else None
    if header is not None and header.unparsed:
        return Examined(content.kind, ((header.unparsed, _COPY),))
    stored = _stored(path, content)
    if stored is not None and stored.outside:
        return Examined(content.kind, ((outside_problem(stored.outside), REMEDY),))
    if stored is not None:
        size = sum(part.promised for part in stored.parts)
        values = size // (2 if stored.dtype is None else stored.dtype.itemsize)
        many = too_many_components(stored.components)
        if problem := many or ("" if falls_short(stored) else too_large(needed(size, values))):
            return Examined(content.kind, ((problem, _COPY if many else _RIGHT),))
        missing, finite = read_stored(stored, path)
        answer = (True, ()) if finite is None else (finite.all, finite.blank)
        return Examined(content.kind, _damage(missing), missing, *answer)
    if content.kind == file_type_detection.META:
        # ITK would say so on the console itself.
        problem = "its header lacks NDims, DimSize, ElementType or ElementDataFile, has one twice, or they do not fit"
        return Examined(content.kind, ((problem, _COPY),))
    if is_packed(path):
        read_through(path, None)
    return Examined(content.kind)


def _nifti(path: Path) -> Examined:
    own = header_file(path)
    if own is None:
        problem = f"its header is missing: there is no {path.with_suffix('.hdr').name} beside it"
        return Examined(file_type_detection.NIFTI, ((problem, "Restore the other half of the pair"),))
    voxels = voxel_file(own)
    header = read_header(own)
    wrong = wrong_length(first_bytes(own)) if header is None else ""
    if wrong or (header is None and not is_packed(voxels)):
        return Examined(file_type_detection.NIFTI, ((wrong, _COPY),) if wrong else ())
    if header is not None and voxels == path and path.suffix.lower() == ".hdr" and header.content[344:347] != b"n+1":
        problem = f"its voxels are missing: there is no {path.with_suffix('.img').name} beside it"
        return Examined(file_type_detection.NIFTI, ((problem, "Restore the other half of the pair"),))
    promised = 0 if header is None else header.promised
    size, packed = voxels.stat().st_size, is_packed(voxels)
    if packed and (impossible := beyond_deflate(promised, size)):
        return Examined(file_type_detection.NIFTI, _damage(impossible), impossible)
    whole = packed or size >= promised
    many = "" if header is None else too_many_components(header.components)
    if large := many or (too_large(needed(promised, header.count)) if header is not None and whole else ""):
        return Examined(file_type_detection.NIFTI, ((large, _COPY if many else _RIGHT),))
    length, finite = read_through(voxels, header)
    missing = ""
    if length > 2 * promised + HARMLESS and header is not None and packed:
        missing = f"it unpacks to more than twice the {promised} bytes that its header promises"
    if header is not None and length < header.promised:
        unit = "bytes unpacked" if packed else "bytes"
        where = f" in {voxels.name}" if voxels != path else ""
        missing = f"{length} {unit}{where} of the {header.promised} that its header promises"
    second = header is not None and header.nifti2
    placed = [] if header is None else nifti_problems(header.content, single=voxels == own)
    blank = () if missing else finite.blank
    return Examined(
        file_type_detection.NIFTI,
        (*_damage(missing), *placed),
        missing,
        finite.all,
        blank,
        nifti2=second,
    )


def needed(stored: int, values: int) -> int:
    """Bytes that reading takes: so many as they are stored, and so many values as float32."""
    return stored + 4 * values


def _stored(path: Path, content: Contents) -> Stored | None:
    if content.kind == file_type_detection.NRRD:
        header = read_nrrd_header(path)
        return None if header is None else nrrd_stored(header)
    if content.kind == file_type_detection.META:
        return metaimage_stored(path)
    return gipl_stored(path, packed=content.packed) if content.kind == file_type_detection.GIPL else None


def _damage(missing: str) -> tuple[tuple[str, str], ...]:
    return ((f"is incomplete or damaged: {missing}", _COPY),) if missing else ()
