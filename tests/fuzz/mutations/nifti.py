"""NIfTI and Analyze: fields of the header to extreme values, and gzip members that lie."""

from __future__ import annotations

import gzip
import struct
from random import Random
from typing import Any

from fuzz.mutations import values

#: Field → format, offset, how many.
FIELDS = {
    "sizeof_hdr": ("i", 0, 1),
    "dim": ("h", 40, 8),
    "intent_code": ("h", 68, 1),
    "datatype": ("h", 70, 1),
    "bitpix": ("h", 72, 1),
    "slice_start": ("h", 74, 1),
    "pixdim": ("f", 76, 8),
    "vox_offset": ("f", 108, 1),
    "scl_slope": ("f", 112, 1),
    "scl_inter": ("f", 116, 1),
    "xyzt_units": ("B", 123, 1),
    "toffset": ("f", 136, 1),
    "descrip": ("B", 148, 80),
    "qform_code": ("h", 252, 1),
    "sform_code": ("h", 254, 1),
    "quatern": ("f", 256, 3),
    "qoffset": ("f", 268, 3),
    "srow": ("f", 280, 12),
    "magic": ("B", 344, 4),
    "extension": ("B", 348, 4),
}
_TYPES = (0, 1, 2, 4, 8, 16, 32, 64, 128, 255, 256, 512, 768, 1024, 1280, 1536, 1792, 2048, 2304, 9999)
_LIMITS = {"B": (0, 255), "h": (-(2**15), 2**15 - 1), "i": (-(2**31), 2**31 - 1)}


def packed(content: bytes, rng: Random) -> tuple[bytes, str]:
    """Of a gzip file: its header as in :func:`plain`, or the gzip stream itself."""
    if rng.random() < 0.25:
        return _stream(content, rng)
    changed, what = plain(gzip.decompress(content), rng)
    return gzip.compress(changed, 1, mtime=0), what


def plain(content: bytes, rng: Random) -> tuple[bytes, str]:
    """One or two fields of the header, its byte order, or more or fewer voxels."""
    changed = bytearray(content)
    pick = rng.random()
    if pick < 0.06:
        for form, at, count in FIELDS.values():
            size = struct.calcsize(form)
            for place in range(at, at + size * count, size):
                changed[place : place + size] = changed[place : place + size][::-1]
        return bytes(changed), "the header of the other byte order"
    if pick < 0.12:
        extra = rng.choice((1, 7, 1000))
        return content + bytes(extra), f"{extra} bytes more than the header says"
    if pick < 0.18:
        # Floating-point voxels: what is no number, and what is beyond all numbers.
        for _ in range(rng.choice((1, 30))):
            place = 352 + 4 * rng.randrange(max(1, (len(changed) - 352) // 4))
            changed[place : place + 4] = struct.pack("<f", _real(rng))
        return bytes(changed[: len(content)]), "voxels of extreme values"
    done = []
    for _ in range(rng.choice((1, 1, 2))):
        field = rng.choice(list(FIELDS))
        form, at, count = FIELDS[field]
        which = rng.randrange(count)
        given = _field_value(field, form, rng)
        struct.pack_into(f"<{form}", changed, at + which * struct.calcsize(form), given)
        if field == "pixdim" and rng.random() < 0.5:
            # Neither form says anything: the sizes count.
            struct.pack_into("<2h", changed, 252, 0, 0)
        done.append(f"{field}[{which}] = {given!r}")
    return bytes(changed), ", ".join(done)


def _field_value(field: str, form: str, rng: Random) -> Any:
    if field == "datatype":
        return rng.choice(_TYPES)
    if form == "f":
        return _real(rng)
    low, high = _LIMITS[form]
    whole = rng.choice(values.WHOLE) if rng.random() < 0.7 else rng.randint(low, high)
    return min(max(whole, low), high)


def _real(rng: Random) -> float:
    given = float(rng.choice(values.REAL))
    return given if not abs(given) > 3.4e38 or given in (float("inf"), float("-inf")) else 3.4e38


def _stream(content: bytes, rng: Random) -> tuple[bytes, str]:
    done = rng.randrange(6)
    if done == 0:
        return content + rng.randbytes(rng.choice((1, 40))), "bytes after the gzip member"
    if done == 1:
        return content + gzip.compress(b"more", mtime=0), "a second gzip member"
    if done == 2:
        return content[:-8], "no checksum at the end of the gzip member"
    if done == 3:
        return content[:-8] + rng.randbytes(4) + content[-4:], "another checksum"
    if done == 4:
        return content[:-4] + struct.pack("<I", rng.choice((0, 1, 2**31, 2**32 - 1))), "another length after the data"
    return gzip.decompress(content), "not packed"
