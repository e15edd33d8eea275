"""Single-file NIfTI as bytes: what its header promises, its checksum, and the values that ITK does not hand over."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 544
_BLOCK = 1 << 22
_FLOATS = {16: "f4", 64: "f8"}


@dataclass(frozen=True)
class Header:
    """Where the voxels of a file lie.

    Attributes:
        start: Bytes before the first voxel.
        count: Stored values: voxels times time points times channels.
        bits: Of each value.
        dtype: Type of the values if they are floating-point numbers that ITK reads, else None.
    """

    start: int
    count: int
    bits: int
    dtype: np.dtype[Any] | None

    @property
    def promised(self) -> int:
        """Header, extensions and voxels together, in bytes."""
        return self.start + self.count * self.bits // 8


def parse_header(content: bytes) -> Header | None:
    """The header of a NIfTI-1 or NIfTI-2 file in either byte order, or None if it is neither.

    Args:
        content: The first :data:`HEADER_BYTES` bytes of the file, unpacked, or all if it has fewer.
    """
    for order in "<>":
        if len(content) >= 348 and struct.unpack_from(order + "i", content)[0] == 348:
            size, sizes = 348, struct.unpack_from(order + "8h", content, 40)
            kind, bits = struct.unpack_from(order + "2h", content, 70)
            start = struct.unpack_from(order + "f", content, 108)[0]
        elif len(content) >= 540 and struct.unpack_from(order + "i", content)[0] == 540:
            size, sizes = 540, struct.unpack_from(order + "8q", content, 16)
            kind, bits = struct.unpack_from(order + "2h", content, 12)
            start = struct.unpack_from(order + "q", content, 168)[0]
        else:
            continue
        count = math.prod(max(1, int(side)) for side in sizes[1 : 1 + max(0, sizes[0])])
        # As the NIfTI library does: voxels cannot begin within the header.
        first = max(size, int(start)) if math.isfinite(start) else size
        return Header(first, count, int(bits), np.dtype(order + _FLOATS[kind]) if kind in _FLOATS else None)
    return None


def is_packed(path: Path) -> bool:
    """Whether the name is that of a gzip file."""
    return path.name.lower().endswith(".gz")


def read_header(path: Path) -> Header | None:
    """The header of a file, or None if it is no single-file NIfTI.

    Raises:
        OSError: If it cannot be opened, or is no gzip file though its name says so.
        EOFError: If it ends before its header does.
        zlib.error: If it cannot be unpacked.
    """
    with _opened(path) as stream:
        return parse_header(stream.read(HEADER_BYTES))


def read_through(path: Path, header: Header | None) -> tuple[int, bool]:
    """Bytes of a file, unpacked, and whether all its floating-point values are finite; checks the sums of gzip files.

    Args:
        path: The file; all members of a gzip file are read.
        header: Of the file; without one, or with one of whole numbers, the second answer is True.

    Raises:
        OSError: If it cannot be opened or read, or a gzip checksum or length does not fit.
        EOFError: If a gzip file ends too early.
        zlib.error: If it cannot be unpacked.
    """
    length, finite, first = 0, True, 0
    with _opened(path) as stream:
        for block in _blocks(stream, 0 if header is None else header.start):
            if header is not None and header.dtype is not None and length >= header.start:
                values = _values(block, header, first)
                first += len(values)
                finite = finite and bool(np.isfinite(values).all())
            length += len(block)
    return length, finite


def put_back_not_finite(path: Path, header: Header, array: NDArray[np.floating[Any]]) -> int:
    """Set to NaN what is not finite in a file and was made 0 on the way: ITK's NIfTI library does so without a word.

    Args:
        path: The file.
        header: Of the file.
        array: Its ``header.count`` values in the order of the file, contiguous; changed in place.

    Returns:
        Values set.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If the array has another size than the header says.
    """
    if array.size != header.count or not array.flags.c_contiguous:
        raise ValueError(f"{array.size} values were read of the {header.count} in the file")
    flat = array.reshape(-1)
    length = first = found = 0
    with _opened(path) as stream:
        for block in _blocks(stream, header.start):
            if length >= header.start:
                wrong = ~np.isfinite(_values(block, header, first))
                flat[first : first + len(wrong)][wrong] = np.nan
                first += len(wrong)
                found += int(wrong.sum())
            length += len(block)
    return found


def _opened(path: Path) -> BinaryIO:
    return cast("BinaryIO", gzip.open(path)) if is_packed(path) else path.open("rb")


def _blocks(stream: BinaryIO, start: int) -> Iterator[bytes]:
    """All of a stream; a block ends where the voxels begin, and those after it hold whole values."""
    while start > 0 and (block := stream.read(min(start, _BLOCK))):
        start -= len(block)
        yield block
    while block := stream.read(_BLOCK):
        yield block


def _values(block: bytes, header: Header, first: int) -> NDArray[np.floating[Any]]:
    """The values in a block whose first one is number ``first`` of the file; bytes after the last are left aside."""
    dtype = np.dtype("f4") if header.dtype is None else header.dtype
    return np.frombuffer(block, dtype, min(len(block) // dtype.itemsize, header.count - first))
