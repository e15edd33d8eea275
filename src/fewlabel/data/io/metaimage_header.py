"""Headers of MetaImage files (``.mha``, ``.mhd``): where their voxels lie."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from fewlabel.data.io.files_named_in_files import leading_outside, numbered_names
from fewlabel.data.io.stored_voxel_checks import Packing, Part, Stored, promised_bytes

_MOST_LINES = 1000
_LONGEST_LINE = 1 << 16
#: Axes that MetaIO has room for; it writes past its arrays where a header asks for more.
_MOST_AXES = 10
_BITS = {
    "CHAR": 8, "UCHAR": 8, "SHORT": 16, "USHORT": 16, "INT": 32, "UINT": 32, "LONG": 32, "ULONG": 32,
    "LONG_LONG": 64, "ULONG_LONG": 64, "FLOAT": 32, "DOUBLE": 64,
}  # fmt: skip


def metaimage_stored(path: Path) -> Stored | None:
    """Where the voxels of a file lie; None where it is for ITK to refuse.

    Raises:
        OSError: If it cannot be read.
    """
    values: dict[str, str] = {}
    with path.open("rb") as stream:
        for _ in range(_MOST_LINES):
            line = stream.readline(_LONGEST_LINE)
            key, equals, value = line.decode("latin-1").partition("=")
            if not equals:
                return None
            if key.strip().lower() in values:
                # MetaIO may go by the first.
                return None
            values[key.strip().lower()] = value.strip()
            if key.strip().lower() == "elementdatafile":
                break
        length = stream.tell()
        rest = [] if not values.get("elementdatafile", "").startswith("LIST") else _lines(stream.read(_LONGEST_LINE))
    sizes = _integers(values.get("dimsize", ""))
    kind = values.get("elementtype", "").upper().removeprefix("MET_").removesuffix("_ARRAY")
    named = values.get("elementdatafile", "")
    files = _files(path, named, rest, sizes or (1,)) if named else []
    if elsewhere := leading_outside(path, files):
        return Stored((), outside=os.path.relpath(elsewhere[0], path.parent))
    if not sizes or kind not in _BITS or not named or not _axes_fit(values.get("ndims", ""), sizes):
        return None
    components = max(1, *_integers(values.get("elementnumberofchannels", "1")), 1)
    text = _no(values.get("binarydata", "True"))
    packing: Packing = "text" if text else "gzip" if not _no(values.get("compresseddata", "False")) else ""
    promised = promised_bytes((*sizes, components), 8 if text else _BITS[kind])
    before = (_integers(values.get("headersize", "0")) or (0,))[0]
    start = None if before < 0 else length if named.upper() == "LOCAL" else before
    parts = tuple(Part(file, promised // len(files), start, packing) for file in files)
    big = not _no(values.get("binarydatabyteordermsb", values.get("elementbyteordermsb", "False")))
    dtype = np.dtype(f"{'>' if big else '<'}f{_BITS[kind] // 8}") if kind in ("FLOAT", "DOUBLE") else None
    if components == 1 and len(sizes) == 4:
        return Stored(parts, dtype, max(1, sizes[3]))
    return Stored(parts, dtype, components, interleaved=True)


def _axes_fit(stated: str, sizes: tuple[int, ...]) -> bool:
    """Whether a file has as many axes as it says, and not more than can be read."""
    return _integers(stated) == (len(sizes),) and len(sizes) <= _MOST_AXES


def _files(path: Path, named: str, listed: list[str], sizes: tuple[int, ...]) -> list[Path]:
    if named.upper() == "LOCAL":
        return [path]
    if named.upper().startswith("LIST"):
        return [path.parent / name for name in listed] or [path]
    words = named.split()
    if "%" in words[0] and len(words) > 1:
        first, last, step = (
            (*_integers(" ".join(words[1:4])), sizes[-1], 1)[:3]
            if len(words) < 4
            else (_integers(" ".join(words[1:4])) or (1, sizes[-1], 1))
        )
        numbers = range(first, last + 1, max(1, step))
        if not numbers:
            return [path]
        return [path.parent / name for name in numbered_names(words[0], numbers)] or [path.parent / named]
    return [path.parent / named]


def _lines(content: bytes) -> list[str]:
    return [line.strip() for line in content.decode("latin-1").splitlines() if line.strip()]


def _no(word: str) -> bool:
    return word.strip().lower() in ("false", "0", "no", "f")


def _integers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in text.split())
    except ValueError:
        return ()
