"""Whether a NIfTI file is all there: ITK reads a truncated one without a word and fills it with zeros."""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path

_HEADER = 544
_BLOCK = 1 << 22


def what_is_missing(path: Path) -> str:
    """What keeps a NIfTI file from being complete, or an empty text.

    The size that the header promises is held against the size of the file, or against the size at the end of a gzip
    file; only where these differ is a gzip file read through.

    Args:
        path: Any file; other formats than single-file NIfTI are not looked at.

    Raises:
        OSError: If it cannot be opened.
    """
    name = path.name.lower()
    if name.endswith(".nii"):
        with path.open("rb") as stream:
            promised = _promised_bytes(stream.read(_HEADER))
        found = path.stat().st_size
        return "" if found >= promised else f"{found} bytes of the {promised} that its header promises"
    if not name.endswith(".nii.gz"):
        return ""
    try:
        with gzip.open(path) as unpacked:
            promised = _promised_bytes(unpacked.read(_HEADER))
        with path.open("rb") as stream:
            stream.seek(-4, 2)
            # RFC 1952: the length of the (last) member modulo 2^32.
            if struct.unpack("<I", stream.read(4))[0] == promised % (1 << 32):
                return ""
        found = 0
        with gzip.open(path) as unpacked:
            while block := unpacked.read(_BLOCK):
                found += len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        return f"{type(error).__name__}: {error}"
    return "" if found >= promised else f"{found} bytes unpacked of the {promised} that its header promises"


def _promised_bytes(header: bytes) -> int:
    """Header, extensions and voxels together, in bytes; 0 if this is no single-file NIfTI header."""
    for order in "<>":
        if len(header) >= 348 and struct.unpack_from(order + "i", header)[0] == 348:
            sizes = struct.unpack_from(order + "8h", header, 40)
            (bits,), (start,) = (
                struct.unpack_from(order + "h", header, 72),
                struct.unpack_from(order + "f", header, 108),
            )
        elif len(header) >= 540 and struct.unpack_from(order + "i", header)[0] == 540:
            sizes = struct.unpack_from(order + "8q", header, 16)
            (bits,), (start,) = (
                struct.unpack_from(order + "h", header, 14),
                struct.unpack_from(order + "q", header, 168),
            )
        else:
            continue
        voxels = prod(max(1, int(size)) for size in sizes[1 : 1 + sizes[0]])
        return int(start) + voxels * int(bits) // 8
    return 0
