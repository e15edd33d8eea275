"""NIfTI files as bytes: what their header promises, their checksum, and the values that ITK does not hand over."""

from __future__ import annotations

import gzip
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.io.stored_voxel_checks import HARMLESS, Finite

#: What the two versions have at bytes 344 and 4 of their headers.
_MARKS, _MARKS_2 = (b"n+1\0", b"ni1\0"), (b"n+2\0", b"ni2\0")
HEADER_BYTES = 544
_BLOCK = 1 << 22
_BEYOND = 1 << 40
_FLOATS = {16: "f4", 64: "f8"}
#: Bits of a value by the code of its type; what a header says of them beside it may be wrong.
BITS = {
    1: 1, 2: 8, 4: 16, 8: 32, 16: 32, 32: 64, 64: 64, 128: 24, 256: 8, 512: 16, 768: 32, 1024: 64, 1280: 64, 1536: 128,
    1792: 128, 2048: 256, 2304: 32,
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """Where the voxels of a file lie.

    Attributes:
        start: Bytes before the first voxel.
        count: Stored values: voxels times time points times channels.
        bits: Of each value.
        dtype: Type of the values if they are floating-point numbers that ITK reads, else None.
        components: Volumes one after the other: time points times channels.
        content: The first :data:`HEADER_BYTES` bytes of the file.
    """

    start: int
    count: int
    bits: int
    dtype: np.dtype[Any] | None
    components: int = 1
    content: bytes = b""

    @property
    def nifti2(self) -> bool:
        """Whether it is of the second version."""
        return self.content[4:6] in (b"n+", b"ni")

    @property
    def promised(self) -> int:
        """Header, extensions and voxels together, in bytes."""
        return self.start + self.count * self.bits // 8


def parse_header(content: bytes, *, single: bool = True) -> Header | None:
    """The header of a NIfTI-1, NIfTI-2 or Analyze file in either byte order, or None if it is none of them.

    Args:
        content: The first :data:`HEADER_BYTES` bytes of the file, unpacked, or all if it has fewer.
        single: Whether the voxels follow in the same file.
    """
    import nibabel

    # What is asked of a NIfTI-1 header lies where Analyze has it.
    for kind in (nibabel.AnalyzeHeader, nibabel.Nifti2Header):
        size = kind.sizeof_hdr
        if kind.may_contain_header(content):
            # Unchecked: what is wrong with it is for ITK to say, once.
            facts = kind(content[:size], check=False)
            sizes, start, code = facts["dim"], float(facts["vox_offset"]), int(facts["datatype"])
            sides = [max(1, int(side)) for side in sizes[1 : 1 + max(0, int(sizes[0]))]]
            # As the NIfTI library does: the voxels of a single file cannot begin within its header.
            first = max(size if single else 0, int(start) if math.isfinite(start) else 0)
            dtype = np.dtype(facts.endianness + _FLOATS[code]) if code in _FLOATS else None
            bits, components = BITS.get(code, int(facts["bitpix"])), math.prod(sides[3:])
            return Header(first, math.prod(sides), bits, dtype, components, bytes(content[:HEADER_BYTES]))
    return None


def is_nifti(content: bytes) -> bool:
    """Whether a file that begins with ``content`` is NIfTI or Analyze, damaged or not."""
    import nibabel

    headers = (nibabel.AnalyzeHeader, nibabel.Nifti2Header)
    return any(kind.may_contain_header(content) for kind in headers) or _has_mark(content)


def wrong_length(content: bytes) -> str:
    """What is wrong with the length that a header has for itself, where its mark says NIfTI; empty if nothing is.

    By that length headers are told apart. ITK does not look at it, and would read what nothing else was held against.

    Args:
        content: The first :data:`HEADER_BYTES` bytes of a file, unpacked, of which :func:`parse_header` makes nothing.
    """
    if not _has_mark(content):
        return ""
    right = 348 if content[344:348] in _MARKS else 540
    given = int.from_bytes(content[:4], "little", signed=True)
    return f"its header is damaged: it says that it has {given} bytes, and one with its mark has {right}"


def _has_mark(content: bytes) -> bool:
    return content[344:348] in _MARKS or content[4:8] in _MARKS_2


def voxel_file(path: Path) -> Path:
    """The file that the voxels of an image lie in: that of the header, or the ``.img`` beside a ``.hdr``."""
    if not _is_pair(path):
        return path
    return _beside(path, (".img", ".img.gz", ".IMG")) or path


def header_file(path: Path) -> Path | None:
    """The file that holds the header of an image: its own, or the ``.hdr`` beside an ``.img``; None if that is gone."""
    name = path.name.lower()
    if not name.endswith((".img", ".img.gz")):
        return path
    return _beside(path.with_suffix("") if name.endswith(".gz") else path, (".hdr", ".HDR"))


def is_packed(path: Path) -> bool:
    """Whether the name is that of a gzip file."""
    return path.name.lower().endswith(".gz")


def read_header(path: Path) -> Header | None:
    """The header of a file, or None if it is neither NIfTI nor Analyze.

    Raises:
        OSError: If it cannot be opened, or is no gzip file though its name says so.
        EOFError: If it ends before its header does.
        zlib.error: If it cannot be unpacked.
    """
    return parse_header(first_bytes(path), single=not _is_pair(path))


def first_bytes(path: Path) -> bytes:
    """The first :data:`HEADER_BYTES` bytes of a file, unpacked, or all if it has fewer.

    Raises:
        OSError, EOFError, zlib.error: As :func:`read_header`.
    """
    with _opened(path) as stream:
        return stream.read(HEADER_BYTES)


def read_through(path: Path, header: Header | None) -> tuple[int, Finite]:
    """Bytes of a file, unpacked, and which floating-point values are finite; checks the sums of gzip files.

    Args:
        path: The file; all members of a gzip file are read, up to some more than twice of what the header promises.
        header: Of the file; without one, or with one of whole numbers, nothing is said to be not finite.

    Raises:
        OSError: If it cannot be opened or read, or a gzip checksum or length does not fit.
        EOFError: If a gzip file ends too early.
        zlib.error: If it cannot be unpacked.
    """
    floats = header is not None and header.dtype is not None
    finite = Finite(header.count, header.components) if header is not None and floats else Finite(0, 0)
    with _opened(path) as stream:
        if header is not None:
            for first, values in _blocks(stream, header):
                finite.add(first, values)
        if not is_packed(path):
            return stream.seek(0, os.SEEK_END), finite
        # What nobody promised is read for its checksum, but not without end.
        most = 2 * header.promised + HARMLESS if header is not None else None
        while stream.read(_BLOCK) and (most is None or stream.tell() <= most):
            pass
        return stream.tell(), finite


def read_scale(path: Path) -> float:
    """By what a NIfTI file multiplies the numbers that it stores; 1 where it says nothing.

    Raises:
        OSError: If it cannot be read.
    """
    import nibabel

    header = read_header(path)
    if header is None or header.dtype is not None or not nibabel.Nifti1Header.may_contain_header(header.content):
        return 1.0
    slope = float(nibabel.Nifti1Header(header.content[:348], check=False)["scl_slope"])
    return slope if slope and math.isfinite(slope) else 1.0


def is_marked(path: Path) -> bool:
    """Whether the header of an image bears the mark of NIfTI, which Analyze lacks.

    Raises:
        OSError: If it cannot be read.
    """
    header = read_header(header_file(path) or path)
    return header is not None and (header.content[344:346] in (b"n+", b"ni") or header.nifti2)


def put_back_not_finite(path: Path, header: Header, array: NDArray[np.floating[Any]]) -> None:
    """Set to NaN what is not finite in a file and was made 0 on the way: ITK's NIfTI library does so without a word.

    Args:
        path: The file.
        header: Of the file.
        array: Its ``header.count`` values in the order of the file, contiguous; changed in place.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the array has another size than the header says.
    """
    if array.size != header.count or not array.flags.c_contiguous:
        raise ValueError(f"{array.size} values were read of the {header.count} in the file")
    flat = array.reshape(-1)
    with _opened(path) as stream:
        for first, values in _blocks(stream, header):
            flat[first : first + len(values)][~np.isfinite(values)] = np.nan


def _is_pair(path: Path) -> bool:
    return path.suffix.lower() == ".hdr"


def _beside(path: Path, suffixes: tuple[str, ...]) -> Path | None:
    return next((file for file in map(path.with_suffix, suffixes) if file.is_file()), None)


def _opened(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path)) if is_packed(path) else path.open("rb")


def _blocks(stream: BinaryIO, header: Header) -> Iterator[tuple[int, NDArray[np.floating[Any]]]]:
    """The floating-point values of a file, block by block, each with the number of its first value."""
    if header.dtype is None:
        return
    # A header of nonsense may name a place that no file reaches, nor any seek.
    stream.seek(min(header.start, _BEYOND))
    first, size = 0, header.dtype.itemsize
    while values := stream.read(min(_BLOCK, (header.count - first) * size)):
        block = np.frombuffer(values, header.dtype, len(values) // size)
        yield first, block
        first += len(block)
