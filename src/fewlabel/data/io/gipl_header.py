"""Headers of GIPL files: where their voxels lie."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from fewlabel.data.io.stored_voxel_checks import Part, Stored, promised_bytes

HEADER_BYTES = 256
_MAGIC = (0xEFFFE9B0, 0x2AE389B8)
_BITS = {7: 8, 8: 8, 15: 16, 16: 16, 31: 32, 32: 32, 64: 32, 65: 64}


def gipl_stored(path: Path, *, packed: bool) -> Stored | None:
    """Where the voxels of a file lie; None if it is no GIPL, or one for ITK to refuse.

    Raises:
        OSError: If it cannot be read.
        EOFError: If a gzip file ends within the header.
        zlib.error: If it cannot be unpacked.
    """
    with cast("BinaryIO", gzip.open(path)) if packed else path.open("rb") as stream:
        content = stream.read(HEADER_BYTES)
    if len(content) < HEADER_BYTES or struct.unpack_from(">I", content, 252)[0] not in _MAGIC:
        return None
    sizes = [side or 1 for side in struct.unpack_from(">4H", content)]
    kind = struct.unpack_from(">H", content, 8)[0]
    if kind not in _BITS:
        return None
    promised = promised_bytes(sizes, _BITS[kind])
    dtype = np.dtype(f">f{_BITS[kind] // 8}") if kind in (64, 65) else None
    part = Part(path, promised, 0, "gzip", HEADER_BYTES) if packed else Part(path, promised, HEADER_BYTES)
    return Stored((part,), dtype, sizes[3])
