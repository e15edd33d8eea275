"""Headers of PNG, JPEG, BMP, GIF and TIFF pictures: size, colours, turns, and whether they are whole."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fewlabel.data.io.tiff_structure import ORIENTATION, BrokenTiffError, Page, read_pages, read_tags

PNG, JPEG, BMP, TIFF, GIF = "PNG", "JPEG", "BMP", "TIFF", "GIF"
#: Bytes of pixels that one byte of a packed file can hold at most; deflate packs 1032 to one, JPEG 256 pixels.
_DENSEST = 2048
_PNG_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
#: Dots per inch of print: they say nothing of the size of what is shown.
_PRINT = {72, 75, 96, 100, 120, 144, 150, 180, 200, 240, 300, 350, 360, 400, 600, 720, 1200}
_TURNS = {2: "mirrors it", 3: "turns it by 180 degrees", 4: "mirrors it", 5: "mirrors it and turns it by 90 degrees",
          6: "turns it by 90 degrees", 7: "mirrors it and turns it by 90 degrees",
          8: "turns it by 90 degrees"}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """What the header of a picture says.

    Attributes:
        kind: ``PNG``, ``JPEG``, ``BMP``, ``GIF`` or ``TIFF``.
        width: Pixels of a row as stored.
        height: Rows as stored.
        samples: Values per pixel as stored, the transparency among them.
        bits: Of each value.
        palette: Whether the values are places in a table of colours.
        grey_palette: Whether all those colours are grey.
        alpha: Whether the last value is the transparency.
        orientation: 1 to 8 as EXIF numbers them; 1 is upright.
        lossy: Whether values are not exactly those that were stored.
        floats: Whether the values are floating-point numbers.
        print_size: Whether the size of a pixel, where one is given, is that of print.
        pages: Pictures in the file.
        uneven: How these differ in size or kind of value, or empty.
        missing: What is missing of it, or empty.
    """

    kind: str
    width: int
    height: int
    samples: int
    bits: int
    palette: bool = False
    grey_palette: bool = False
    alpha: bool = False
    orientation: int = 1
    lossy: bool = False
    floats: bool = False
    print_size: bool = True
    pages: int = 1
    uneven: str = ""
    missing: str = ""

    @property
    def channels(self) -> int:
        """Values per pixel as an image: colours of a table count, the transparency does not."""
        if self.palette:
            return 1 if self.grey_palette else 3
        return self.samples - self.alpha

    @property
    def unpacked(self) -> int:
        """Bytes of its pixels."""
        return self.width * self.height * self.samples * self.pages * max(1, self.bits // 8)

    @property
    def values(self) -> int:
        """Values that its pixels have as an image."""
        return self.width * self.height * self.channels * self.pages

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width as viewers show it."""
        return (self.width, self.height) if self.orientation > 4 else (self.height, self.width)

    @property
    def turn(self) -> str:
        """What the tag of its orientation does, or empty: ``turns it by 90 degrees``."""
        return _TURNS.get(self.orientation, "")

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual and does no harm."""
        notes = []
        if self.turn:
            notes.append(f"its EXIF tag {self.turn}: it is read as viewers show it")
        if self.alpha:
            notes.append("its transparency is left out")
        return tuple(notes)


def read_picture(path: Path, kind: str) -> Picture:
    """The header of a picture; PNG and JPEG files are read through once.

    Raises:
        OSError: If it cannot be read.
    """
    if kind == TIFF:
        return _tiff(path)
    content = path.read_bytes()
    read = {PNG: _png, JPEG: _jpeg, BMP: _bmp, GIF: _gif}[kind]
    try:
        return read(content)
    except (struct.error, IndexError):
        return Picture(kind, 0, 0, 1, 8, missing=f"it ends after {len(content)} bytes, within its header")


def _png(content: bytes) -> Picture:
    width, height, bits, colour = struct.unpack_from(">IIBB", content, 16)
    palette, orientation, missing, place, ended = b"", 1, "", 8, False
    while not ended and not missing:
        if place + 12 > len(content):
            missing = f"{len(content)} bytes of at least {place + 12}: its end is not there"
            break
        size, name = struct.unpack_from(">I4s", content, place)
        end = place + 12 + size
        if end > len(content):
            missing = f"{len(content)} bytes of at least {end}"
            break
        body = content[place + 8 : end - 4]
        if zlib.crc32(body, zlib.crc32(name)) != struct.unpack_from(">I", content, end - 4)[0]:
            missing = f"the checksum of its part {name.decode('latin-1')} at byte {place} does not fit"
        if name == b"PLTE":
            palette = body
        elif name == b"eXIf":
            orientation = _orientation(body)
        ended, place = name == b"IEND", end
    samples = _PNG_SAMPLES.get(colour, 1)
    missing = missing or _too_large(width, height, samples * bits, len(content))
    grey = palette[0::3] == palette[1::3] == palette[2::3]
    return Picture(
        PNG, width, height, samples, bits, palette=colour == 3, grey_palette=grey, alpha=colour in (4, 6),
        orientation=orientation, missing=missing,
    )  # fmt: skip


def _jpeg(content: bytes) -> Picture:
    place, orientation = 2, 1
    width = height = samples = 0
    while True:
        while content[place] != 0xFF:
            place += 1
        while content[place] == 0xFF:
            place += 1
        marker, place = content[place], place + 1
        if marker in (0x01, *range(0xD0, 0xD9)):
            continue
        size = struct.unpack_from(">H", content, place)[0]
        body = content[place + 2 : place + size]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, samples = struct.unpack_from(">HHB", body, 1)
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _orientation(body[6:])
        place += size
        if marker == 0xDA or place >= len(content):
            break
    missing = ""
    if content.rfind(b"\xff\xd9", min(place, len(content))) < 0:
        missing = f"it ends after {len(content)} bytes without its end mark"
    missing = missing or _too_large(width, height, 8, len(content))
    return Picture(JPEG, width, height, 3 if samples == 4 else samples, 8, orientation=orientation, lossy=True,
                   missing=missing)  # fmt: skip


def _bmp(content: bytes) -> Picture:
    start, size = struct.unpack_from("<II", content, 10)
    if size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        code, step = 0, 3
    else:
        width, height, _, bits, code = struct.unpack_from("<iiHHI", content, 18)
        step = 4
    width, height = abs(width), abs(height)
    there, missing = max(0, len(content) - start), ""
    promised = (width * bits + 31) // 32 * 4 * height
    if code in (0, 3, 6) and there < promised:
        missing = f"{there} bytes of pixels of the {promised} that its header promises"
    missing = missing or (_too_large(width, height, bits, len(content)) if code in (1, 2) else "")
    table = content[14 + size : start]
    grey = table[0::step] == table[1::step] == table[2::step]
    return Picture(BMP, width, height, 1 if bits <= 8 else 3, min(bits, 8), palette=bits <= 8, grey_palette=grey,
                   missing=missing)  # fmt: skip


def _gif(content: bytes) -> Picture:
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    table = content[13 : 13 + 3 * (2 << (flags & 7))] if flags & 0x80 else b""
    grey = table[0::3] == table[1::3] == table[2::3]
    missing = "" if content.rstrip(b"\0").endswith(b";") else f"it ends after {len(content)} bytes without its end mark"
    missing = missing or _too_large(width, height, 8, len(content))
    return Picture(GIF, width, height, 1, 8, palette=True, grey_palette=grey, missing=missing)


def _tiff(path: Path) -> Picture:
    length = path.stat().st_size
    try:
        pages = read_pages(path)
    except BrokenTiffError as error:
        return Picture(TIFF, 0, 0, 1, 8, missing=str(error))
    page = pages[0]
    missing = next((text for text in (each.missing(length) for each in pages) if text), "")
    table = page.tags.get(320, ())
    third = len(table) // 3
    grey = table[:third] == table[third : 2 * third] == table[2 * third :]
    return Picture(
        TIFF, *page.size, page.samples, page.bits, palette=page.palette, grey_palette=grey,
        alpha=page.samples in (2, 4) and page.one(262, 1) in (0, 1, 2) and bool(page.tags.get(338)),
        orientation=_valid(page.one(ORIENTATION, 1)), lossy=page.lossy, floats=page.floats,
        print_size=_of_print(page), pages=len(pages), missing=missing, uneven=_unevenness(pages),
    )  # fmt: skip


def _unevenness(pages: list[Page]) -> str:
    kinds = list(dict.fromkeys((page.size, page.samples * page.bits) for page in pages))
    if len(kinds) == 1:
        return ""
    told = [f"{width} x {height} pixels of {bits} bits" for (width, height), bits in kinds[:3]]
    return f"its {len(pages)} pages are not alike: {', '.join(told)}{', ...' if len(kinds) > 3 else ''}"


def _of_print(page: Page) -> bool:
    """Whether the resolution of a page is none, or a number of dots per inch that print knows."""
    dots = page.tags.get(282, ())
    return not dots or page.one(296, 2) == 1 or (page.one(296, 2) == 2 and dots[0] in _PRINT)


def _orientation(content: bytes) -> int:
    stream: BinaryIO = io.BytesIO(content)
    try:
        return _valid(read_tags(stream, len(content))[0].one(ORIENTATION, 1))
    except (BrokenTiffError, struct.error):
        return 1


def _valid(orientation: int) -> int:
    return orientation if 1 <= orientation <= 8 else 1


def _too_large(width: int, height: int, bits: int, length: int) -> str:
    """What is wrong with a header that promises more pixels than the file can hold."""
    if width < 1 or height < 1:
        return f"its header promises {width} x {height} pixels"
    if width * height * bits // 8 > length * _DENSEST:
        return f"its header promises {width} x {height} pixels, more than {length} bytes can hold"
    return ""
