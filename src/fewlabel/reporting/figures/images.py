"""Slices, plain and with contours."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from contourpy import contour_generator
from numpy.typing import NDArray
from PIL import Image

from fewlabel.data.store import UNLABELLED
from fewlabel.reporting.blocks import Picture
from fewlabel.reporting.figure_style import CONTOURS, embed_svg

#: Width of a tile in CSS pixels at full size.
_TILE = 240
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    '<image width="{width}" height="{height}" href="data:image/png;base64,{image}"/>'
    '<g fill="none" stroke-linejoin="round" stroke-linecap="butt">{lines}</g></svg>'
)
_LINE = '<path vector-effect="non-scaling-stroke" stroke="{colour}" stroke-width="{width}"{dash} d="{path}"/>'
_FILL = '<path fill="{colour}" fill-opacity=".28" fill-rule="evenodd" stroke="none" d="{path}"/>'
_RIM = _LINE.replace("{colour}", "#000").replace("<path ", '<path stroke-opacity=".6" ')


def slice_box(masks: Sequence[NDArray[np.integer]], shape: tuple[int, int], margin: int = 10) -> tuple[slice, slice]:
    """A square window around all structures of some masks, within the image.

    Args:
        masks: (…, height, width) class indices; 0 is background, 255 not annotated.
        shape: (height, width) of the image.
        margin: Pixels to leave around.
    """
    structures = np.zeros(shape, bool)
    for mask in masks:
        structures |= ((mask > 0) & (mask < UNLABELLED)).reshape(-1, *shape).any(axis=0)
    if not structures.any():
        return slice(0, shape[0]), slice(0, shape[1])
    rows, columns = np.flatnonzero(structures.any(axis=1)), np.flatnonzero(structures.any(axis=0))
    side = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1 + 2 * margin
    window = []
    for ends, limit in ((rows, shape[0]), (columns, shape[1])):
        size = min(int(side), limit)
        start = int(np.clip((ends[0] + ends[-1] + 1) // 2 - size // 2, 0, limit - size))
        window.append(slice(start, start + size))
    return window[0], window[1]


def choose_slices(mask: NDArray[np.integer], count: int = 4) -> list[int]:
    """Slices (indices along axis 0) spread over those with a structure; over all where there is none.

    The first and last annotated slice are always among them: that is where segmentation fails first.
    """
    present = np.flatnonzero(((mask > 0) & (mask < UNLABELLED)).any(axis=(1, 2)))
    pool = present if present.size else np.arange(mask.shape[0])
    picked = np.linspace(0, len(pool) - 1, min(count, len(pool))).round().astype(int)
    return [int(pool[index]) for index in np.unique(picked)]


def slice_figure(
    image: NDArray[np.floating],
    reference: NDArray[np.integer] | None = None,
    prediction: NDArray[np.integer] | None = None,
    *,
    alt: str,
    caption: str,
) -> Picture:
    """One slice in grey; the reference as solid outlines, the prediction as dashed ones around a faint fill.

    The picture is an SVG: the slice at its own resolution, the outlines as lines of constant width.

    Args:
        image: (height, width), shown from black to white between its 0.5th and 99.5th percentile.
        reference: (height, width) class indices, 0 background and 255 not annotated; None for no outline.
        prediction: The same, or None.
        alt: What is shown, in words.
        caption: Below the tile.
    """
    height, width = image.shape
    outlines: list[str] = []
    if prediction is not None:
        outlines = [
            _FILL.format(path=outline(prediction == index), colour=_colour(index))
            for index in np.unique(prediction)
            if 0 < index < UNLABELLED
        ]
    for mask, dash, stroke in ((reference, "", 1.8), (prediction, ' stroke-dasharray="4 2.5"', 1.3)):
        for index in np.unique(mask) if mask is not None else ():
            if 0 < index < UNLABELLED and mask is not None:
                path = outline(mask == index)
                # A dark rim keeps every line visible on bright blood and on dark lung alike.
                outlines.append(_RIM.format(path=path, width=stroke + 1.2, dash=dash))
                outlines.append(_LINE.format(path=path, width=stroke, dash=dash, colour=_colour(index)))
    content = _SVG.format(width=width, height=height, image=_png(_grey(image)), lines="".join(outlines))
    return embed_svg(content, (_TILE, round(_TILE * height / width)), alt=alt, caption=caption)


def _colour(index: int) -> str:
    return CONTOURS[(int(index) - 1) % len(CONTOURS)]


def outline(mask: NDArray[np.bool_]) -> str:
    """SVG path around a mask (height, width), in pixels with the first pixel's corner at 0, through half values."""
    padded = np.pad(mask, 1).astype(np.float32)
    parts = []
    for line in contour_generator(z=padded).lines(0.5):
        points = np.asarray(line) - 0.5
        parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points[:-1]) + "Z")
    return "".join(parts)


def _grey(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    low, high = np.percentile(image, [0.5, 99.5])
    scaled = np.clip((np.asarray(image, np.float32) - low) / max(float(high - low), 1e-6), 0, 1)
    return np.asarray((scaled * 255).round(), np.uint8)


def _png(pixels: NDArray[np.uint8]) -> str:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()
