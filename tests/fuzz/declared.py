"""How large an input says to be once it is decoded: as its headers have it, read by hand."""

from __future__ import annotations

import gzip
import re
import struct
from math import prod

from fuzz.trees import Tree

_NRRD_BYTES = {
    "double": 8,
    "float": 4,
    "int64": 8,
    "uint64": 8,
    "short": 2,
    "ushort": 2,
    "int16": 2,
    "uint16": 2,
    "int": 4,
}


def declared_mib(tree: Tree) -> float:
    """The largest decoded size that any file of a tree declares, in MiB, as float32; 0 where none can be told."""
    return max((_of_file(name.lower(), entry) for name, entry in tree.items() if isinstance(entry, bytes)), default=0.0)


def _of_file(name: str, content: bytes) -> float:
    try:
        voxels = _voxels(name, content)
    except (struct.error, ValueError, OSError, EOFError, IndexError):
        return 0.0
    # What a file itself takes is read whichever way.
    return max(4.0 * voxels, float(len(content))) / 2**20


def _voxels(name: str, content: bytes) -> int:
    if name.endswith((".nii.gz", ".nii", ".hdr")):
        head = gzip.decompress(content)[:348] if content[:2] == b"\x1f\x8b" else content[:348]
        dims = struct.unpack_from("<8h", head, 40)
        if not 1 <= dims[0] <= 7:
            dims = struct.unpack_from(">8h", head, 40)
        return prod(max(side, 1) for side in dims[1 : 1 + min(max(dims[0], 0), 7)])
    if name.endswith((".nrrd", ".nhdr", ".mha", ".mhd")):
        found = re.search(rb"(?:^|\n)(?:sizes: ?|DimSize ?= ?)([0-9 ]+)", content[:4096])
        return prod(int(side) for side in found[1].split()) if found else 0
    if name.endswith(".png"):
        return prod(struct.unpack_from(">II", content, 16)) * 4
    if name.endswith(".bmp"):
        return prod(abs(side) for side in struct.unpack_from("<ii", content, 18)) * 4
    if name.endswith(".jpg"):
        frames = re.findall(rb"\xff[\xc0-\xc3\xc9]..(.)(..)(..)(.)", content, re.DOTALL)
        return max((int.from_bytes(h) * int.from_bytes(w) * 4 for _, h, w, _ in frames), default=0)
    return 0
