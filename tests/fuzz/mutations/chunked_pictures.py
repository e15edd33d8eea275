"""PNG by chunks, JPEG by segments, TIFF by entries of its directory."""

from __future__ import annotations

import struct
import zlib
from random import Random

from fuzz.mutations import values

_PNG = b"\x89PNG\r\n\x1a\n"
_SIDES = (0, 1, 7, 255, 4096, 20000, 65500, 2**20, 2**31 - 1, 2**32 - 1)


def png(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A field of the header, or a chunk that is gone, doubled, added or of other content; checksums are right."""
    chunks = _chunks(content)
    done = rng.randrange(9)
    at = rng.randrange(len(chunks))
    kind, data = chunks[at]
    if done <= 2:
        header = list(struct.unpack(">IIBBBBB", chunks[0][1]))
        field = rng.randrange(7)
        header[field] = rng.choice(_SIDES) if field < 2 else rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 17, 255))
        chunks[0] = b"IHDR", struct.pack(">IIBBBBB", *header)
        what = f"field {field} of IHDR {header[field]}"
    elif done == 3:
        del chunks[at]
        what = f"without {kind!r}"
    elif done == 4:
        chunks.insert(at, chunks[at])
        what = f"{kind!r} twice"
    elif done == 5:
        extra = rng.choice((b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"eXIf", b"pHYs", b"sBIT", b"acTL", b"zTXt", b"QQQQ"))
        chunks.insert(1 + rng.randrange(len(chunks)), (extra, rng.randbytes(rng.choice((0, 1, 3, 9, 300, 768)))))
        what = f"a chunk {extra!r}"
    elif done == 6:
        packed = zlib.compress(bytes(rng.choice((0, 10, 10**6, 20 * 10**6))), 6)
        chunks = [(k, packed if k == b"IDAT" else d) for k, d in chunks]
        what = "other pixels than the header says"
    elif done == 7:
        text = zlib.compress(bytes(rng.choice((10, 5 * 10**6))), 6)
        chunks.insert(1, (b"iCCP" if rng.random() < 0.5 else b"zTXt", b"x\0\0" + text))
        what = "a packed text"
    else:
        chunks[at] = kind, data[: rng.randrange(len(data) + 1)]
        what = f"{kind!r} cut short"
    return _PNG + b"".join(_chunk(kind, data) for kind, data in chunks), what


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(_PNG)
    while at + 8 <= len(content):
        (size,) = struct.unpack_from(">I", content, at)
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A segment that is gone, doubled or changed: sizes, components, tables."""
    segments, rest = _segments(content)
    at = rng.randrange(len(segments))
    marker, data = segments[at]
    done = rng.randrange(6)
    if done <= 2:
        place = next((n for n, (kind, _) in enumerate(segments) if kind in (0xC0, 0xC1, 0xC2)), at)
        marker, data = segments[place]
        frame = bytearray(data)
        if rng.random() < 0.7 and len(frame) >= 5:
            side = min(rng.choice(_SIDES), 65535)
            struct.pack_into(">H", frame, rng.choice((1, 3)), side)
            what = f"a side of {side}"
        else:
            frame[rng.randrange(len(frame))] = rng.choice((0, 1, 3, 4, 8, 12, 16, 17, 0x44, 255))
            what = "another frame header"
        segments[place] = rng.choice((marker, marker, 0xC2, 0xC3, 0xC9)), bytes(frame)
    elif done == 3:
        del segments[at]
        what = f"without segment {marker:02x}"
    elif done == 4:
        segments.insert(at, segments[at])
        what = f"segment {marker:02x} twice"
    else:
        exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes([rng.randrange(12), 0, 0, 0]) + bytes(4)
        segments.insert(0, (0xE1, exif if rng.random() < 0.6 else exif[: rng.randrange(len(exif))]))
        what = "an EXIF segment"
    body = b"".join(struct.pack(">BBH", 0xFF, kind, len(data) + 2) + data for kind, data in segments)
    return b"\xff\xd8" + body + rest, what


def _segments(content: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Segments up to the start of the scan, and all from there."""
    found, at = [], 2
    while content[at + 1] != 0xDA:
        (size,) = struct.unpack_from(">H", content, at + 2)
        found.append((content[at + 1], content[at + 4 : at + 2 + size]))
        at += 2 + size
    return found, content[at:]


def tiff(content: bytes, rng: Random) -> tuple[bytes, str]:
    """An entry of the first directory: tag, type, count or value; or where directories lie."""
    order = "<" if content[:2] == b"II" else ">"
    changed = bytearray(content)
    (first,) = struct.unpack_from(f"{order}I", content, 4)
    (count,) = struct.unpack_from(f"{order}H", content, first)
    pick = rng.random()
    if pick < 0.08:
        where = rng.choice((0, 4, 8, first + 1, len(content), 2**32 - 1))
        struct.pack_into(f"{order}I", changed, 4, where)
        return bytes(changed), f"the directory at byte {where}"
    if pick < 0.16:
        where = rng.choice((first, 8, len(content) - 1, 2**32 - 1))
        struct.pack_into(f"{order}I", changed, first + 2 + 12 * count, where)
        return bytes(changed), f"a next directory at byte {where}"
    if pick < 0.22:
        struct.pack_into(f"{order}H", changed, first, rng.choice((0, 1, count + 1, 4096, 65535)))
        return bytes(changed), "another number of entries"
    entry = first + 2 + 12 * rng.randrange(count)
    (tag,) = struct.unpack_from(f"{order}H", content, entry)
    part = rng.randrange(6)
    if part == 0:
        given = rng.choice((256, 257, 258, 259, 262, 277, 278, 279, 284, 317, 320, 322, 338, 339, 42112, 0, 65535))
        struct.pack_into(f"{order}H", changed, entry, given)
    elif part == 1:
        given = rng.randrange(20)
        struct.pack_into(f"{order}H", changed, entry + 2, given)
    else:
        given = rng.choice([whole for whole in values.WHOLE if 0 <= whole < 2**32])
        struct.pack_into(f"{order}I", changed, entry + (4 if part == 2 else 8), given)
    return bytes(changed), f"tag {tag}: {('tag', 'type', 'count', 'value', 'value', 'value')[part]} {given}"
