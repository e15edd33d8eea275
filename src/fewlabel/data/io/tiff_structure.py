"""TIFF files as bytes: their pages, where the pixels lie, and how a page is to be shown. Also the tags of EXIF."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LETTERS = {
    1: "B",
    2: "B",
    3: "H",
    4: "I",
    5: "Q",
    6: "b",
    7: "B",
    8: "h",
    9: "i",
    11: "f",
    12: "d",
    13: "I",
    16: "Q",
    17: "q",
}
_RATIO = 5
_MOST_PAGES = 1 << 16
_MOST_VALUES = 1 << 22
#: Tags that are looked at: those of size, type, packing and place of the pixels, of colours, turns and resolution.
_WANTED = frozenset({256, 257, 258, 259, 262, 273, 274, 277, 279, 282, 284, 296, 320, 324, 325, 338, 339})
#: Those of them that have one value; libtiff trips over others.
_SINGLE = frozenset({256, 257, 259, 262, 274, 277, 284, 296})
ORIENTATION = 274
_LOSSY = (6, 7, 34712)
#: Codes of fax machines, which pack a white page into next to nothing.
_FAX = (2, 3, 4)


class BrokenTiffError(ValueError):
    """A structure that leads outside of the file or nowhere."""


@dataclass(frozen=True)
class Page:
    """One image of a file: values of its tags by number."""

    tags: Mapping[int, tuple[float, ...]]

    def one(self, tag: int, default: int) -> int:
        """The first value of a tag."""
        values = self.tags.get(tag)
        return int(values[0]) if values else default

    @property
    def size(self) -> tuple[int, int]:
        """Pixels, (width, height)."""
        return self.one(256, 0), self.one(257, 0)

    @property
    def samples(self) -> int:
        """Values per pixel."""
        return self.one(277, 1)

    @property
    def bits(self) -> int:
        """Bits of each value."""
        return self.one(258, 1)

    @property
    def palette(self) -> bool:
        """Whether the values are places in a table of colours."""
        return self.one(262, 1) == 3

    @property
    def lossy(self) -> bool:
        """Whether values are not those that were stored."""
        return self.one(259, 1) in _LOSSY

    @property
    def floats(self) -> bool:
        """Whether the values are floating-point numbers."""
        return self.one(339, 1) == 3

    def missing(self, length: int) -> str:
        """What a file of ``length`` bytes lacks of the page, or an empty text."""
        offsets = self.tags.get(273) or self.tags.get(324) or ()
        counts = self.tags.get(279) or self.tags.get(325) or ()
        width, height = self.size
        row = (width * self.bits * (1 if self.one(284, 1) == 2 else self.samples) + 7) // 8
        whole = row * height * (self.samples if self.one(284, 1) == 2 else 1)
        if not counts and len(offsets) == 1:
            counts = (whole,)
        ends = [int(offset + count) for offset, count in zip(offsets, counts, strict=False)]
        if not ends:
            return "a page says nowhere where its pixels lie"
        if max(ends) > length:
            return f"{length} bytes of the {max(ends)} that its header promises"
        packed, code = int(sum(counts)), self.one(259, 1)
        if (code == 1 and packed < whole) or (code not in (*_FAX, 1) and packed * 4096 + 4096 < whole):
            return f"its header promises {width} x {height} pixels, more than {packed} bytes can hold"
        return ""


def read_tags(stream: BinaryIO, length: int) -> list[Page]:
    """The pages of a TIFF, or the tags of EXIF, from a stream that begins with them.

    Raises:
        BrokenTiffError: If it is none, or leads outside of its ``length`` bytes.
    """
    start = stream.read(16)
    order = {b"II": "<", b"MM": ">"}.get(start[:2])
    if order is None or len(start) < 8:
        raise BrokenTiffError("it is no TIFF")
    version = struct.unpack_from(order + "H", start, 2)[0]
    big = version == 43
    if version not in (42, 43) or (big and len(start) < 16):
        raise BrokenTiffError("it is no TIFF")
    place = struct.unpack_from(order + ("Q" if big else "I"), start, 8 if big else 4)[0]
    pages: list[Page] = []
    known: set[int] = set()
    values = 0
    while place and len(pages) < _MOST_PAGES:
        if place in known:
            # Whoever follows it never ends.
            raise BrokenTiffError("its pages lead back to one of them")
        known.add(place)
        page, place = _page(stream, length, order, place, big=big)
        pages.append(page)
        values += sum(map(len, page.tags.values()))
        _check_values(values, length)
    if not pages:
        raise BrokenTiffError("it has no page")
    return pages


def read_pages(path: Path) -> list[Page]:
    """The pages of a file.

    Raises:
        OSError: If it cannot be read.
        BrokenTiffError: As :func:`read_tags`.
    """
    with path.open("rb") as stream:
        return read_tags(stream, path.stat().st_size)


def _page(stream: BinaryIO, length: int, order: str, place: int, *, big: bool) -> tuple[Page, int]:
    number, entry, pointer = ("Q", 20, "Q") if big else ("H", 12, "I")
    count = struct.unpack(order + number, _at(stream, place, struct.calcsize(number), length))[0]
    first = place + struct.calcsize(number)
    content = _at(stream, first, count * entry, length)
    tags: dict[int, tuple[float, ...]] = {}
    values = 0
    for at in range(0, count * entry, entry):
        tag, kind = struct.unpack_from(order + "HH", content, at)
        many = struct.unpack_from(order + pointer, content, at + 4)[0]
        letter = _LETTERS.get(kind)
        if letter is None or many > _MOST_VALUES or tag not in _WANTED:
            continue
        if tag in _SINGLE and many != 1:
            raise BrokenTiffError(f"its tag {tag} has {many} values where one belongs")
        values += many
        _check_values(values, length)
        held = struct.calcsize(pointer)
        inline = at + 4 + held
        size = many * _SIZES[kind]
        if size <= held:
            raw = content[inline : inline + size]
        else:
            raw = _at(stream, struct.unpack_from(order + pointer, content, inline)[0], size, length)
        if kind == _RATIO:
            pairs = struct.unpack(f"{order}{2 * many}I", raw)
            tags[tag] = tuple(
                above / below if below else 0.0 for above, below in zip(pairs[::2], pairs[1::2], strict=True)
            )
        else:
            tags[tag] = struct.unpack(f"{order}{many}{letter}", raw)
    following = struct.unpack(order + pointer, _at(stream, first + count * entry, struct.calcsize(pointer), length))[0]
    return Page(tags), following


def _check_values(count: int, length: int) -> None:
    """Refuse tags that have one place of a file over and over for their values."""
    if count > max(_MOST_VALUES, length):
        raise BrokenTiffError(f"its tags have {count} values, more than {length} bytes can hold")


def _at(stream: BinaryIO, place: int, size: int, length: int) -> bytes:
    if place + size > length:
        raise BrokenTiffError(f"{length} bytes of at least {place + size}")
    stream.seek(place)
    return stream.read(size)
