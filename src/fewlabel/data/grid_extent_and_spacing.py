"""Which part of the scans a pixel grid shows, and how finely: from the scans and masks that may decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.label_values import LabelMap
from fewlabel.data.orient import orient_to
from fewlabel.data.resample import resampled_pixels
from fewlabel.data.scan_inspection import CaseFacts

#: Network sizes are multiples of this: four halvings.
SIZE_STEP = 16
LARGEST_SIZE = 256
#: Percentile of the scans' extents that the grid covers: what lies further out is seen in few scans.
COVERED_PERCENTILE = 5.0
#: A side of up to so many pixels in the largest scan is covered whole: it costs next to nothing.
SMALL = 64
#: Pixels kept around labels.
MARGIN = 4
#: The spacing that nobody set is at most this times the median, however far labels reach.
COARSEST = 2.0


@dataclass(frozen=True)
class Laid:
    """What one scan means for the grid; pairs are (down, across) a slice.

    Attributes:
        pixels: Its pixels.
        spacing: Their size in mm.
        reach: How far its labels lie from its middle, in mm; 0 without any.
        thickness: Raw label value → thickness in mm, see :meth:`~fewlabel.data.label_extents.LabelShape.thickness`.
    """

    pixels: tuple[int, int]
    spacing: tuple[float, float]
    reach: tuple[float, float]
    thickness: dict[int, float]


@dataclass(frozen=True)
class Grid:
    """The pixel grid of a data set.

    Attributes:
        spacing: Pixel size in mm, (row, column).
        size: (height, width) in pixels.
        median: Median pixel size of the scans.
        thinnest: Thickness of the thinnest structure in mm, as a median over masks; None without labels.
        reason: What the field of view follows from; empty where the size was given.
    """

    spacing: tuple[float, float]
    size: tuple[int, int]
    median: tuple[float, float]
    thinnest: float | None
    reason: str


def lay(
    facts: Sequence[CaseFacts], frame: NDArray[np.float64], labels: LabelMap, slice_axis: str = "auto"
) -> list[Laid]:
    """What each readable scan says of the grid.

    Args:
        facts: Of the scans that may decide.
        frame: Reference unit vectors (3, 3), see :func:`fewlabel.data.slice_plane.reference_frame`.
        labels: Classes; other values, and what is to be ignored, do not count as labels.
        slice_axis: As in :func:`fewlabel.data.orient.orient_to`.
    """
    laid = []
    for fact in facts:
        geometry = fact.geometry
        if geometry is None:
            continue
        _, down, across = orient_to(geometry, frame, slice_axis).axes
        shapes = {value: shape for value, shape in fact.shapes.items() if labels.stands_for(value) in labels.values[1:]}
        reach = [
            geometry.spacing[axis]
            * max(
                (max(n / 2 - shape.first[axis], shape.last[axis] + 1 - n / 2) for shape in shapes.values()),
                default=0.0,
            )
            for axis, n in ((down, geometry.shape[down]), (across, geometry.shape[across]))
        ]
        rows, columns = (down, geometry.spacing[down]), (across, geometry.spacing[across])
        laid.append(
            Laid(
                (geometry.shape[down], geometry.shape[across]),
                (geometry.spacing[down], geometry.spacing[across]),
                (reach[0], reach[1]),
                {value: shape.thickness(rows, columns) for value, shape in shapes.items()},
            )
        )
    return laid


def choose_grid(
    laid: Sequence[Laid], spacing: Sequence[float] | None = None, size: Sequence[int] | None = None
) -> Grid:
    """The grid that shows what nearly all scans have, and all labels.

    Each side covers the fifth percentile of the scans' extents, and all labels with a margin of four pixels as far as
    any scan reaches; where no scan has more than 64 pixels it covers the largest. It is a multiple of 16, at most 256
    pixels. The spacing is the median; where the labels would not fit it is as much larger as they need, at most twice.

    Args:
        laid: At least one scan.
        spacing: (row, column) in mm; None to choose.
        size: (height, width) in pixels; None to choose.
    """
    median = np.median([scan.spacing for scan in laid], axis=0)
    reach = np.max([scan.reach for scan in laid], axis=0)
    pixel = median if spacing is None else np.asarray(spacing, dtype=np.float64)
    if spacing is None and size is None:
        needed = 2 * reach / (LARGEST_SIZE - 2 * MARGIN)
        pixel = median * min(max(1.0, float((needed / median).max())), COARSEST)
    target = (_rounded(pixel[0]), _rounded(pixel[1]))
    reason = ""
    if size is None:
        sides = [_side(laid, axis, target[axis], float(reach[axis])) for axis in range(2)]
        size = [side for side, _ in sides]
        reason = ", ".join(dict.fromkeys(why for _, why in sides))
    thick: dict[int, list[float]] = {}
    for scan in laid:
        for value, thickness in scan.thickness.items():
            thick.setdefault(value, []).append(thickness)
    thinnest = min((float(np.median(thickness)) for thickness in thick.values()), default=None)
    return Grid(target, (int(size[0]), int(size[1])), (_rounded(median[0]), _rounded(median[1])), thinnest, reason)


def _side(laid: Sequence[Laid], axis: int, target: float, reach: float) -> tuple[int, str]:
    """Pixels of one side of the grid, and why."""
    covers = [resampled_pixels(scan.pixels[axis], scan.spacing[axis], target) for scan in laid]
    largest = max(covers)
    wanted, reason = float(np.percentile(covers, COVERED_PERCENTILE)), "what nearly all scans cover"
    if largest <= SMALL:
        wanted, reason = float(largest), "all that any scan covers"
    labels = min(2 * reach / target + 2 * MARGIN, float(largest)) if reach else 0.0
    side = SIZE_STEP * math.ceil(wanted / SIZE_STEP)
    if labels > side:
        side, reason = SIZE_STEP * math.ceil(labels / SIZE_STEP), "enlarged to hold all labels"
    if side > LARGEST_SIZE:
        cut = ", less than the labels reach" if math.floor(labels) > LARGEST_SIZE else ""
        side, reason = LARGEST_SIZE, f"the middle {LARGEST_SIZE} pixels{cut}"
    return side, reason


def _rounded(value: float) -> float:
    # Six digits hide float32 headers; what is stored is what is used.
    return float(f"{value:.6g}")
