"""Headers of NRRD files: fields, keys of their own, and where the voxels lie."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewlabel.data.io.files_named_in_files import leading_outside, numbered_names
from fewlabel.data.io.stored_voxel_checks import Packing, Part, Stored, promised_bytes, unpacked_blocks

MAGIC = b"NRRD000"
_MOST = 1 << 24
#: Longer lines that ITK cannot parse end the process: it writes them into a message without room for them.
_LONGEST_FIELD = 500
_ENCODINGS: dict[str, Packing] = {
    "raw": "", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2",
    "text": "text", "txt": "text", "ascii": "text", "hex": "hex",
}  # fmt: skip
_BITS = {
    8: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    16: ("short", "short int", "signed short", "signed short int", "int16", "int16_t",
         "ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    32: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
    64: ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64", "int64_t",
         "ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t", "double"),
}  # fmt: skip
#: Other names of a field, without spaces → its name.
_SAME = {"centers": "centerings"}
_SPATIAL = ("domain", "space", "???", "none")


@dataclass(frozen=True)
class NrrdHeader:
    """What stands before the voxels.

    Attributes:
        path: The file.
        fields: Name in lower case → value.
        keys: Keys of the program that wrote it → value.
        names: Files of a ``LIST``.
        length: Bytes of the header in its file.
        unparsed: Why a line of it must not reach ITK; empty if all may.
    """

    path: Path
    fields: dict[str, str]
    keys: dict[str, str]
    names: tuple[str, ...]
    length: int
    unparsed: str = ""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples along each axis, the fastest first; empty if they cannot be read."""
        return _integers(self.fields.get("sizes", ""))

    @property
    def range_axis(self) -> int | None:
        """The axis along which no space runs: of components, colours or layers."""
        directions = re.findall(r"none|\([^)]*\)", self.fields.get("space directions", ""))
        kinds = self.fields.get("kinds", "").split()
        for axis in range(len(self.sizes)):
            kind = kinds[axis].lower() if axis < len(kinds) else ""
            if (axis < len(directions) and directions[axis] == "none") or (kind and kind not in (*_SPATIAL, "time")):
                return axis
        return None


def read_nrrd_header(path: Path) -> NrrdHeader | None:
    """The header of a file, or None if it is no NRRD.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return None
        stream.readline()
        fields: dict[str, str] = {}
        keys: dict[str, str] = {}
        names: list[str] = []
        seen: set[str] = set()
        listed, unparsed = False, ""
        while (line := stream.readline(_MOST)) and line.strip():
            text = line.decode("utf-8", errors="replace").strip()
            if text.startswith("#"):
                continue
            if listed:
                names.append(text)
            elif ":=" in text and (": " not in text or text.index(":=") < text.index(": ")):
                key, value = text.split(":=", 1)
                keys[key] = value.replace("\\n", "\n").replace("\\\\", "\\")
            elif ":" in text and (len(line) <= _LONGEST_FIELD or text.lower().startswith("content:")):
                key, value = text.split(":", 1)
                name = "".join(key.lower().split())
                if _SAME.get(name, name) in seen:
                    # Which of the two ITK goes by is not known here.
                    unparsed = unparsed or f'its header has the field "{key.strip()[:40]}" twice'
                seen.add(_SAME.get(name, name))
                fields[key.strip().lower()] = value.strip()
                listed = key.strip().lower() in ("data file", "datafile") and value.strip().startswith("LIST")
            else:
                unparsed = unparsed or f'its header has a line that is no field: "{text[:40]}"'
        if not unparsed and not _integers(fields.get("sizes", "")):
            # ITK takes 20.0 for 20, and makes room for it.
            unparsed = f'its sizes are no whole numbers: "{fields.get("sizes", "")[:40]}"'
        return NrrdHeader(path, fields, keys, tuple(names), stream.tell(), unparsed)


def nrrd_stored(header: NrrdHeader) -> Stored | None:
    """Where the voxels lie; None where the header is for ITK to refuse."""
    given = [header.fields[name] for name in ("data file", "datafile") if name in header.fields]
    named = given[0] if given else ""
    files = [file for name in given for file in _files(header, name)] or _files(header, "")
    if elsewhere := leading_outside(header.path, files):
        return Stored((), outside=os.path.relpath(elsewhere[0], header.path.parent))
    kind = header.fields.get("type", "").lower()
    bits = next((bits for bits, kinds in _BITS.items() if kind in kinds), None)
    packing = _ENCODINGS.get(header.fields.get("encoding", "").lower())
    sizes = header.sizes
    if bits is None or packing is None or not sizes or len(given) > 1:
        return None
    promised = promised_bytes(sizes, 8 if packing == "text" else bits)
    lines, skip = _first(header.fields, "line skip", "lineskip"), _first(header.fields, "byte skip", "byteskip")
    parts = []
    for file in files:
        start: int | None = _after_lines(file, 0 if named else header.length, lines)
        if skip < 0:
            start = None
        elif start is not None and packing == "":
            start += skip
        parts.append(Part(file, promised // len(files), start, packing, max(0, skip) if packing != "" else 0))
    order = ">" if header.fields.get("endian", "little").lower() == "big" else "<"
    dtype = np.dtype(f"{order}f{bits // 8}") if kind in ("float", "double") else None
    axis = header.range_axis
    components = 1 if axis is None else sizes[axis]
    if axis is None and len(sizes) == 4:
        components, axis = sizes[3], 3
    return Stored(tuple(parts), dtype, max(1, components), axis == 0)


def _files(header: NrrdHeader, named: str) -> list[Path]:
    home = header.path.parent
    if not named:
        return [header.path]
    if named.startswith("LIST"):
        return [home / name for name in header.names] or [header.path]
    words = named.split()
    if "%" in words[0] and len(words) >= 4:
        first, last, step = _integers(" ".join(words[1:4])) or (0, -1, 1)
        numbers = range(first, last + (1 if step > 0 else -1), step or 1)
        if not numbers:
            return [header.path]
        return [home / name for name in numbered_names(words[0], numbers)] or [home / named]
    return [home / named]


def _after_lines(file: Path, start: int, lines: int) -> int:
    if lines <= 0 or not file.is_file():
        return start
    with file.open("rb") as stream:
        stream.seek(start)
        for _ in range(lines):
            if not stream.readline(_MOST):
                # However many lines it is told to skip.
                break
        return stream.tell()


def _first(fields: dict[str, str], *names: str) -> int:
    numbers: Sequence[int] = next((_integers(fields[name]) for name in names if name in fields), ())
    return numbers[0] if numbers else 0


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split())
    except ValueError:
        return ()


def raw_copy(header: NrrdHeader, stored: Stored, folder: Path) -> Path:
    """A copy of an image whose voxels are not packed, for what ITK cannot unpack.

    Args:
        header: Of the image.
        stored: Where its voxels lie.
        folder: Where to write it.

    Raises:
        OSError: If a file cannot be read or written.
    """
    left_out = ("data file", "datafile", "byte skip", "byteskip", "line skip", "lineskip", "encoding")
    fields = "".join(f"{name}: {value}\n" for name, value in header.fields.items() if name not in left_out)
    copy = folder / "voxels.nrrd"
    with copy.open("wb") as stream:
        stream.write(f"NRRD0005\n{fields}encoding: raw\n\n".encode())
        for part in stored.parts:
            left = part.promised
            for block in unpacked_blocks(part):
                left -= stream.write(block[:left])
                if not left:
                    break
    return copy
