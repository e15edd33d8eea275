"""Safetensors: the header's length, and shapes, types, offsets and facts in it."""

from __future__ import annotations

import json
import struct
from random import Random

from fuzz.mutations import values
from fuzz.mutations.trees_of_values import _changed

_TYPES = ("F32", "F64", "F16", "BF16", "I64", "I8", "U8", "BOOL", "X9", "F8_E4M3")


def safetensors(content: bytes, rng: Random) -> tuple[bytes, str]:
    """One thing of a file's header."""
    (size,) = struct.unpack_from("<Q", content, 0)
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    done = rng.randrange(7)
    if done == 0:
        size = rng.choice([whole for whole in values.WHOLE if 0 <= whole < 2**64])
        return struct.pack("<Q", size) + content[8:], f"a header of {size} bytes"
    names = [name for name in header if name != "__metadata__"]
    name = rng.choice(names)
    if done == 1:
        header[name]["dtype"] = rng.choice(_TYPES)
        what = f"{name} of {header[name]['dtype']}"
    elif done == 2:
        shape = header[name]["shape"]
        at = rng.randrange(len(shape) + 1)
        header[name]["shape"] = [*shape[:at], rng.choice((0, 1, 2, -1, 2**40)), *shape[at + rng.randrange(2) :]]
        what = f"{name} of shape {header[name]['shape']}"
    elif done == 3:
        header[name]["data_offsets"][rng.randrange(2)] = rng.choice((0, 1, -1, len(data), len(data) + 1, 2**63))
        what = f"{name} at {header[name]['data_offsets']}"
    elif done == 4:
        other = rng.choice(names)
        header[name], header[other] = header[other], header[name]
        what = f"{name} and {other} changed places"
    elif done == 5:
        place = rng.randrange(len(data))
        data = data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]
        what = f"a bit of the tensors at {place}"
    else:
        header, what = _changed(header, rng)
    text = json.dumps(header).encode(errors="surrogatepass")
    return struct.pack("<Q", len(text)) + text + data, what
