"""PNG, JPEG, BMP, GIF and TIFF pictures, decoded: colours for images, places in the table of colours for masks."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.io.picture_header import BMP, GIF, JPEG, PNG, TIFF, Picture

_UPRIGHT: dict[int, Any] = {
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
    8: lambda a: a.swapaxes(0, 1)[::-1],
}
#: What Pillow raises at damaged pictures: its decoders guard against some damage alone.
_PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, AttributeError, ArithmeticError, struct.error,
    zlib.error,
)  # fmt: skip


def by_itk(picture: Picture) -> bool:
    """Whether ITK reads a picture as it is meant: those with values that Pillow would round."""
    if picture.kind == TIFF:
        return not (picture.palette or picture.bits < 8 or picture.alpha)
    return picture.kind == PNG and picture.bits == 16 and not picture.alpha and picture.orientation == 1


def decode(path: Path, picture: Picture, *, indices: bool) -> NDArray[Any]:
    """The pixels (height, width) or (height, width, colours), turned as viewers show them; (pages, ...) of several.

    Args:
        path: The file.
        picture: Its header.
        indices: Whether it is a mask: places in the table of colours in place of colours, values of few bits as they
            are stored in place of stretched to 255, and the transparency kept.

    Raises:
        DataError: If it cannot be decoded.
    """
    from PIL import BmpImagePlugin, GifImagePlugin, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

    # By their own classes: Image.open warns of large pictures, whose size has been held against the file before.
    kinds: dict[str, Any] = {
        PNG: PngImagePlugin.PngImageFile,
        JPEG: JpegImagePlugin.JpegImageFile,
        BMP: BmpImagePlugin.BmpImageFile,
        TIFF: TiffImagePlugin.TiffImageFile,
        GIF: GifImagePlugin.GifImageFile,
    }
    if picture.bits == 16 and picture.samples > 1:
        problem = "has 16 bits per colour together with a transparency or a turn by EXIF, which cannot be read"
        raise DataError("A file cannot be read:", [Fault(problem, str(path), "Store it without them")])
    try:
        with kinds[picture.kind](path) as opened:
            if picture.kind == GIF and opened.n_frames > 1:
                fault = Fault(f"is an animation of {opened.n_frames} pictures", str(path), "Store one picture a file")
                raise DataError("A file cannot be read:", [fault])
            pages = []
            for number in range(picture.pages):
                if picture.pages > 1:
                    opened.seek(number)
                page = _pixels(opened, picture, indices=indices)
                turn = _UPRIGHT.get(picture.orientation)
                pages.append(np.ascontiguousarray(page if turn is None else turn(page)))
    except _PILLOW_ERRORS as error:
        fault = Fault(f"is incomplete or damaged: {reason(error)}", str(path), "Copy or download it again")
        raise DataError("A file cannot be read:", [fault]) from error
    return pages[0] if len(pages) == 1 else np.stack(pages)


def _pixels(opened: Any, picture: Picture, *, indices: bool) -> NDArray[Any]:
    mode = opened.mode
    if mode == "1":
        bits = np.asarray(opened)
        return bits.astype(np.uint8) if indices else bits.astype(np.uint8) * np.uint8(255)
    if mode in ("P", "PA"):
        if indices:
            return np.asarray(opened if mode == "P" else opened.getchannel(0))
        return np.asarray(opened.convert("L" if picture.grey_palette else "RGB"))
    if mode in ("CMYK", "YCbCr", "RGBX", "RGBa"):
        return np.asarray(opened.convert("RGB"))
    array = np.asarray(opened)
    if picture.alpha and not indices:
        array = array[..., 0] if array.shape[-1] == 2 else array[..., :3]
    if indices and picture.bits in (2, 4) and array.ndim == 2 and not picture.palette:
        array = array // np.uint8(255 // (2**picture.bits - 1))
    return array
