"""How many axes an image file has, and what its fourth holds: points in time, or channels."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np

from fewlabel.core.errors import DataError
from fewlabel.data.io.itk_image import header_if_readable, read_channels

#: Formats that may hold 4D images.
_FOUR = (".nii", ".nii.gz", ".hdr", ".nrrd", ".nhdr", ".mha", ".mhd")
#: More components than this are points in time.
MOST_CHANNELS = 4
#: Frames of a movement differ by less than this share of their spread; sequences of a scanner by more.
_ALIKE = 0.4


def fourth_axis(path: Path) -> int:
    """Length of the fourth axis of an image; 1 where it has none or cannot be read, which reading will say."""
    if not path.name.lower().endswith(_FOUR):
        return 1
    header = header_if_readable(path)
    return int(header.GetSize()[3]) if header is not None and header.GetDimension() == 4 else 1


def slice_size(path: Path) -> tuple[int, ...]:
    """Size (x, y) of an image of one slice, from its header; empty of others, and where it cannot be read."""
    header = header_if_readable(path)
    x, y, *others = (0, 0) if header is None else header.GetSize()
    return (int(x), int(y)) if header is not None and all(length == 1 for length in others) else ()


def look_alike(path: Path) -> bool:
    """Whether the 3D images along the fourth axis are much the same, as frames of one movement are.

    They are where the root mean square of the difference between any two that follow each other is below 0.4 of the
    standard deviation of the former. Headers do not tell: most writers say "mm and s" of every image.
    """
    try:
        array, _ = read_channels(path)
    except DataError:
        return False
    for before, after in pairwise(array):
        difference = np.sqrt(np.mean((after - before) ** 2, dtype=np.float64))
        if not difference < _ALIKE * np.std(before, dtype=np.float64):
            return False
    return True


def frames_with_a_mask(path: Path) -> tuple[int, ...]:
    """Index along the fourth axis, from 0, of each 3D mask that is not empty.

    Raises:
        DataError: If the file cannot be read.
    """
    array, _ = read_channels(path)
    return tuple(int(index) for index in np.flatnonzero(array.any(axis=(1, 2, 3))))
