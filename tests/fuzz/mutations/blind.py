"""Mutations that know nothing of what a file means: bits, bytes, ends and pieces."""

from __future__ import annotations

from random import Random

_WORDS = (
    b"\0",
    b"\xff",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80",
    b"\n",
    b"{",
)
_MOST = 1 << 16


def blind(content: bytes, rng: Random, other: bytes = b"") -> tuple[bytes, str]:
    """Other bytes, and what was done.

    Args:
        content: Of a file.
        rng: Decides.
        other: Of another file, for a piece of it.
    """
    size = len(content)
    if size == 0:
        return rng.randbytes(rng.choice((1, 16, 400))), "filled an empty file"
    done = rng.randrange(9)
    changed = bytearray(content)
    if done <= 1:
        count = rng.choice((1, 1, 1, 2, 8, 64))
        # Headers lie at the beginning, and at the end of zip files and parquet.
        places = [_place(size, rng) for _ in range(count)]
        for place in places:
            changed[place] ^= 1 << rng.randrange(8)
        return bytes(changed), f"flipped {count} bits from byte {places[0]}"
    if done == 2:
        end = rng.choice((0, 1, size // 2, size - 1, rng.randrange(size)))
        return content[:end], f"cut to {end} of {size} bytes"
    if done == 3:
        place, word = _place(size, rng), rng.choice(_WORDS)
        changed[place : place + len(word)] = word
        return bytes(changed), f"wrote {word.hex()} at byte {place}"
    if done == 4:
        place, count = _place(size, rng), rng.choice((1, 2, 4, 16, 512))
        del changed[place : place + count]
        return bytes(changed), f"took {count} bytes out at {place}"
    if done == 5:
        place, count = _place(size, rng), rng.choice((1, 2, 4, 16, 512))
        changed[place:place] = rng.randbytes(count)
        return bytes(changed), f"put {count} random bytes in at {place}"
    if done == 6:
        place, count = _place(size, rng), rng.choice((4, 64, 1024))
        piece = changed[place : place + count]
        changed[place:place] = piece
        return bytes(changed), f"doubled {len(piece)} bytes at {place}"
    if done == 7:
        source = other or content
        start = rng.randrange(len(source))
        piece = source[start : start + rng.choice((8, 128, 4096, _MOST))]
        place = _place(size, rng)
        changed[place : place + len(piece)] = piece
        return bytes(changed), f"spliced {len(piece)} bytes of another file in at {place}"
    place, count = _place(size, rng), rng.choice((1, 4, 32, 256))
    changed[place : place + count] = rng.randbytes(len(changed[place : place + count]))
    return bytes(changed), f"wrote {count} random bytes at {place}"


def _place(size: int, rng: Random) -> int:
    pick = rng.random()
    if pick < 0.4:
        return rng.randrange(min(size, 400))
    if pick < 0.5:
        return size - 1 - rng.randrange(min(size, 200))
    return rng.randrange(size)
