"""Arrays: HDF5 by data sets and links, npz by members, npy by its header."""

from __future__ import annotations

import ast
import io
import struct
import zipfile
from random import Random

import h5py
import numpy as np

from fuzz.mutations import values

_DTYPES = ("<f4", "<f8", "<f2", "|u1", "<i8", "<u8", ">f4", "|b1", "<c8", "|O", "|S4", "<U4", "|V8", "<M8[s]")
_SHAPES = ((), (0,), (3,), (0, 8, 8), (1, 1, 1), (3, 8, 8, 8), (2, 2, 2, 2, 2), (8, 8), (-1, 8), (65536, 65536, 9))


def hdf5(content: bytes, rng: Random) -> tuple[bytes, str]:
    """One data set of other type, shape or values, or a link, a group or a promise of more than is there."""
    stream = io.BytesIO(content)
    with h5py.File(stream, "r+") as file:
        name = rng.choice(list(file) or ["image"])
        old = np.asarray(file[name]) if isinstance(file.get(name), h5py.Dataset) else np.zeros((3, 8, 8))
        done = rng.randrange(12)
        if done == 0:
            del file[name]
            return _closed(file, stream), f"without {name}"
        if done == 1:
            field = rng.choice(("spacing", "affine", "origin", "x\ny"))
            given = values.text(rng).replace("\0", "") if rng.random() < 0.4 else [float(v) for v in _floats(rng, 3)]
            file[name].attrs[field] = given
            return _closed(file, stream), f"attribute {field} of {name}"
        if done == 2:
            other = values.text(rng).replace("\0", "").strip("/.") or "other"
            file[other] = old
            return _closed(file, stream), f"a data set {other[:40]!r} more"
        if name in file:
            del file[name]
        what = _replaced(file, name, old, done, rng)
        return _closed(file, stream), f"{name}: {what}"


def _replaced(file: h5py.File, name: str, old: np.ndarray, done: int, rng: Random) -> str:
    if done == 3:
        file[name] = h5py.ExternalLink(rng.choice(("../elsewhere.h5", "/etc/passwd", "nowhere.h5")), "/image")
        return "a link into another file"
    if done == 4:
        file[name] = h5py.SoftLink(rng.choice((f"/{name}", "/nowhere", "/", "/label")))
        return "a soft link"
    if done == 5:
        file.create_group(name)
        return "a group"
    if done == 6:
        shape = rng.choice(((65536, 65536, 65536), (2**40,), (10**5, 10**5, 100), (0, 8, 8), (2**20, 2**20)))
        chunks = tuple(min(side, 16) or 1 for side in shape)
        file.create_dataset(name, shape, rng.choice(("u1", "f4", "f8")), chunks=chunks)
        return f"a shape of {shape} and nothing written"
    if done == 7:
        file[name] = rng.choice((np.full(old.shape, b"x"), np.bytes_(b"text"), h5py.Empty("f4"), np.float64(1.0)))
        return "text, nothing or a single number"
    if done == 8:
        file[name] = old.astype([("a", "f4"), ("b", "i2")]) if rng.random() < 0.5 else old.astype(np.complex64)
        return "a compound or complex type"
    if done == 9:
        shape = rng.choice([shape for shape in _SHAPES if len(shape) > 0 and -1 not in shape and 65536 not in shape])
        file[name] = np.resize(old, shape)
        return f"a shape of {shape}"
    if done == 10:
        odd = old.astype(np.float32)
        odd.reshape(-1)[: rng.choice((1, odd.size))] = np.float32(rng.choice((np.nan, np.inf, 1e38, -1.0, 0.5)))
        file[name] = odd
        return "odd values"
    kind = rng.choice(("f2", "f8", "i1", "i8", "u8", "?", ">f4", ">i2"))
    file[name] = np.nan_to_num(old).astype(kind)
    return f"of type {kind}"


def _floats(rng: Random, count: int) -> list[float]:
    return [float(rng.choice(values.REAL)) for _ in range(count)]


def _closed(file: h5py.File, stream: io.BytesIO) -> bytes:
    file.close()
    return stream.getvalue()


def npy(content: bytes, rng: Random) -> tuple[bytes, str]:
    """The header of an array: type, order or shape."""
    (length,) = struct.unpack_from("<H", content, 8)
    header, data = content[10 : 10 + length], content[10 + length :]
    known = ast.literal_eval(header.decode().strip())
    done = rng.randrange(6)
    if done == 0:
        known["descr"] = rng.choice(_DTYPES)
    elif done == 1:
        known["fortran_order"] = rng.choice((True, None, 1, "x"))
    elif done == 2:
        known["shape"] = rng.choice((*_SHAPES, (2**40, 2**40), (2**63,), "x", (1.5,), tuple(known["shape"])[::-1]))
    elif done == 3:
        known.pop(rng.choice(list(known)))
    elif done == 4:
        known[rng.choice(("more", "descr "))] = values.text(rng)
    else:
        version = rng.choice((0, 2, 3, 9))
        return content[:6] + bytes([version]) + content[7:], f"version {version}"
    text = rng.choice((repr(known), repr(known), f"{known!r}"[:-1], "__import__('os').getpid()")).encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return content[:8] + struct.pack("<H", len(text)) + text + data, f"header {text.strip()[:80]!r}"


def npz(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A member of the archive: its array, its name, gone or doubled."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, data = members[at]
    done = rng.randrange(7)
    if done <= 2:
        changed, what = npy(data, rng)
        members[at] = name, changed
    elif done == 3:
        del members[at]
        what = "gone"
    elif done == 4:
        members.append((name, data))
        what = "twice"
    elif done == 5:
        other = values.text(rng) or "x"
        members[at] = f"{other}.npy".encode(errors="replace").decode(), data
        what = f"named {other[:40]!r}"
    else:
        stream = io.BytesIO()
        np.save(stream, np.array([{}, None], dtype=object), allow_pickle=True)
        members[at] = name, stream.getvalue()
        what = "pickled objects"
    return zipped(members, zipfile.ZIP_DEFLATED if rng.random() < 0.5 else zipfile.ZIP_STORED), f"{name}: {what}"


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """An archive of these members, the same whenever it is made."""
    import warnings

    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return stream.getvalue()
