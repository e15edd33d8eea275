"""Where the voxels of a file lie and how they are packed, and whether all of them are there and finite."""

from __future__ import annotations

import bz2
import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import reason

Packing = Literal["", "gzip", "bzip2", "text", "hex"]
_BLOCK = 1 << 22
#: Bytes that nobody minds, whatever a header says.
HARMLESS = 1 << 28
#: Files that the voxels of one image may lie in.
MOST_FILES = 1 << 16
#: Values of one voxel, or volumes, that one image may have.
MOST_COMPONENTS = 1 << 16
#: Bytes that one byte of a deflated stream can hold at most; shorter streams may begin with a table.
_DEFLATED, _TABLE = 1032, 1 << 10
#: What goes wrong while damaged content is unpacked; a missing permission is not among it.
UNPACKING = (EOFError, zlib.error, gzip.BadGzipFile)


@dataclass(frozen=True)
class Part:
    """A file, or the rest of one, that holds voxels.

    Attributes:
        file: The file.
        promised: Bytes of voxels that are to lie in it, unpacked; of text the numbers.
        start: Bytes of the file before the voxels; None: they are its last bytes.
        packing: How it is packed; ``gzip`` is any stream of zlib.
        skip: Unpacked bytes before the voxels.
    """

    file: Path
    promised: int
    start: int | None = 0
    packing: Packing = ""
    skip: int = 0


def too_many_components(components: int) -> str:
    """What is wrong with a header that promises so many values of one voxel, or volumes; empty where nothing is."""
    if components <= MOST_COMPONENTS:
        return ""
    return f"its header promises {components} values of each voxel, or volumes: at most {MOST_COMPONENTS} can be read"


def beyond_deflate(promised: int, packed: int) -> str:
    """What is wrong with a promise of more bytes than so many of a deflated stream can hold; empty where it can."""
    if promised <= _DEFLATED * (packed + _TABLE):
        return ""
    return f"its header promises {promised} bytes, more than {packed} bytes of gzip can hold"


@dataclass(frozen=True)
class Stored:
    """The voxels of an image.

    Attributes:
        parts: Files they lie in, in order.
        dtype: Of floating-point values, in the byte order of the file; None for whole numbers.
        components: Values per voxel, or volumes one after the other.
        interleaved: Whether the values of one voxel lie together.
        outside: A file elsewhere that the header names; then there are no parts.
    """

    parts: tuple[Part, ...]
    dtype: np.dtype[Any] | None = None
    components: int = 1
    interleaved: bool = False
    outside: str = ""


class Finite:
    """Which values are finite numbers, of blocks that come one after the other.

    Args:
        count: Values in all.
        components: As in :class:`Stored`.
        interleaved: As in :class:`Stored`.

    Raises:
        ValueError: If there are more components than :data:`MOST_COMPONENTS`.
    """

    def __init__(self, count: int, components: int = 1, *, interleaved: bool = False) -> None:
        if problem := too_many_components(components):
            raise ValueError(problem)
        self.all = True
        self._components, self._interleaved = components, interleaved
        self._each = max(1, count // max(1, components))
        self._known = np.zeros(components, dtype=bool)

    def add(self, first: int, values: NDArray[np.floating[Any]]) -> None:
        """Take in a block.

        Args:
            first: Number of its first value.
            values: Of the block.
        """
        good = np.isfinite(values)
        whole = bool(good.all())
        self.all &= whole
        if self._known.all():
            return
        if whole and not self._interleaved:
            self._known[first // self._each : (first + len(values) - 1) // self._each + 1] = True
            return
        places = first + np.flatnonzero(good)
        parts = places % self._components if self._interleaved else places // self._each
        # Values that are left over belong to none.
        self._known[parts[parts < self._components]] = True

    @property
    def blank(self) -> tuple[int, ...]:
        """Components without a finite value."""
        return tuple(np.flatnonzero(~self._known).tolist())


def read_stored(stored: Stored, own: Path) -> tuple[str, Finite | None]:
    """What is missing of the voxels, or an empty text; and which are finite if they are floating-point numbers.

    Nothing is held in memory but a block. Raw files of whole numbers are not read, only measured.

    Args:
        stored: Where they are to lie.
        own: The file that says so.

    Raises:
        OSError: If a file cannot be read.
    """
    dtype = stored.dtype
    size = 1 if dtype is None else dtype.itemsize
    count = sum(part.promised for part in stored.parts) // size
    finite = None if dtype is None else Finite(count, stored.components, interleaved=stored.interleaved)
    problems, first = [], 0
    for part in stored.parts:
        if not part.file.is_file():
            problems.append(f"its voxels are to lie in {part.file.name}, and there is no such file")
            continue
        if part.packing == "gzip" and (problem := beyond_deflate(part.promised, part.file.stat().st_size)):
            problems.append(problem)
            continue
        problem = _read_part(part, own, None if part.packing in ("text", "hex") else dtype, finite, first)
        problems.extend([problem] if problem else [])
        first += part.promised // size
    shown = "; ".join(problems[:3]) + (f"; and {len(problems) - 3} more" if len(problems) > 3 else "")
    complete = finite is not None and not any(part.packing in ("text", "hex") for part in stored.parts)
    return shown, finite if complete and not problems else None


def falls_short(stored: Stored) -> bool:
    """Whether a file is too small for the voxels that are to lie in it, or is not there; what is packed is not read."""
    for part in stored.parts:
        size = part.file.stat().st_size if part.file.is_file() else 0
        raw = part.packing == "" and size < part.promised
        if raw or not size or (part.packing == "gzip" and beyond_deflate(part.promised, size)):
            return True
    return False


def _read_part(part: Part, own: Path, dtype: np.dtype[Any] | None, finite: Finite | None, first: int) -> str:
    size = part.file.stat().st_size
    unit = "bytes"
    if part.packing == "" and dtype is None:
        there = size if part.start is None else max(0, size - part.start)
    else:
        blocks = _raw(part, size) if part.packing == "" else unpacked_blocks(part)
        unit = {"": unit, "text": "numbers", "hex": "bytes in hexadecimal"}.get(part.packing, "bytes unpacked")
        count = _Count()
        try:
            _count(blocks, part, dtype, finite, first, count)
        except UNPACKING as error:
            return f"damaged {part.packing} content ({error}): {count.there} {unit} of the {part.promised} promised"
        except OSError as error:
            if error.errno is not None:
                raise
            why = reason(error)
            return f"damaged {part.packing} content ({why}): {count.there} {unit} of the {part.promised} promised"
        there = count.there
    if there >= part.promised:
        return ""
    where = f" in {part.file.name}" if part.file != own else ""
    return f"{there} {unit}{where} of the {part.promised} that its header promises"


@dataclass
class _Count:
    """Bytes of voxels that were there when the reading ended, for whatever reason."""

    there: int = 0


def _count(
    blocks: Iterable[bytes], part: Part, dtype: np.dtype[Any] | None, finite: Finite | None, first: int, count: _Count
) -> None:
    """Count the bytes of voxels; the values among the promised ones go to ``finite``."""
    rest = b""
    for block in blocks:
        if dtype is not None and finite is not None:
            content = rest + block[: max(0, part.promised - count.there)]
            whole = len(content) // dtype.itemsize
            values = np.frombuffer(content, dtype, whole)
            if whole:
                finite.add(first, values)
            first, rest = first + whole, content[whole * dtype.itemsize :]
        count.there += len(block)
        # Nobody promised the rest, which may be without end.
        if count.there > 2 * part.promised + HARMLESS:
            return


def _raw(part: Part, size: int) -> Iterator[bytes]:
    with part.file.open("rb") as stream:
        stream.seek(max(0, size - part.promised) if part.start is None else part.start)
        while block := stream.read(_BLOCK):
            yield block


def unpacked_blocks(part: Part) -> Iterator[bytes]:
    """Blocks of a packed part without the bytes to be skipped; of text one byte for each number."""
    skip = part.skip
    with part.file.open("rb") as stream:
        stream.seek(part.start or 0)
        if part.packing == "text":
            yield from _tokens(stream)
            return
        if part.packing == "hex":
            while text := stream.read(_BLOCK):
                yield bytes(sum(byte in b"0123456789abcdefABCDEF" for byte in text) // 2)
            return
        for block in _inflated(stream) if part.packing == "gzip" else _decompressed(stream):
            if len(block) > skip:
                yield block[skip:]
            skip = max(0, skip - len(block))


def _tokens(stream: Any) -> Iterator[bytes]:
    open_number = b""
    while block := stream.read(_BLOCK >> 4):
        text = open_number + block.replace(b",", b" ")
        # Of a number that goes on in the next block one sign will do.
        open_number = b"" if text[-1:].isspace() else b"0"
        yield bytes(len(text.split()) - len(open_number))
    yield bytes(len(open_number))


def _inflated(stream: Any) -> Iterator[bytes]:
    """A stream of zlib or gzip, of one member or several; its checksum is compared."""
    unpack = zlib.decompressobj(47)
    began = False
    while content := stream.read(_BLOCK >> 4):
        while content:
            began = True
            block = unpack.decompress(content, _BLOCK)
            if block:
                yield block
            content = unpack.unconsumed_tail
            if unpack.eof:
                content = unpack.unused_data
                if not content.startswith(b"\x1f\x8b"):
                    return
                unpack = zlib.decompressobj(47)
    if began and not unpack.eof:
        yield unpack.flush()
        raise EOFError("it ends before its end-of-stream mark")


def _decompressed(stream: Any) -> Iterator[bytes]:
    with bz2.open(stream) as unpacked:
        while block := unpacked.read(_BLOCK):
            yield block


def promised_bytes(sizes: Iterable[int], bits: int) -> int:
    """Bytes of an array with sides ``sizes``; sides below 1 count as 0."""
    return math.prod(max(0, int(side)) for side in sizes) * bits // 8
