"""Numbered pictures that cannot be the slices of a volume, by what they show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError
from fewlabel.data.io.itk_image import read_channels

#: Pictures that are looked at, each with its neighbour and one further away.
_SAMPLE = 24
#: With fewer that say anything, nobody can tell.
_FEWEST = 6
#: Of slices, nearly all are more alike their neighbour; of unrelated pictures, half of them by chance.
_MOST = 0.75
#: Differences that differ by less than this share say nothing.
_EQUAL = 0.1
#: Mean difference of red, green and blue, of 255, from which on a picture is one in colour: compression leaves less.
_COLOURFUL = 4.0
#: Pixels along each side that are compared.
_SIDE = 64


def why_unrelated(series: Sequence[Sequence[Path]]) -> str:
    """What speaks against slices, as the end of a sentence; empty where nothing does.

    Slices of a volume are grey, and most resemble the next one more than one that is half of the volume away.

    Args:
        series: Pictures that may be a volume, in the order of their numbers.
    """
    colourful = [_colourful(files[len(files) // 2]) for files in series[:: max(1, len(series) // _SAMPLE)]]
    if sum(colourful) > _MOST * len(colourful):
        return "they are in colour"
    nearer = further = 0
    for here, beside, away in _triples(series):
        one, two, three = (_small(path) for path in (here, beside, away))
        if one is None or two is None or three is None or not one.shape == two.shape == three.shape:
            continue
        near, far = float(np.abs(one - two).mean()), float(np.abs(one - three).mean())
        if abs(near - far) > _EQUAL * max(near, far):
            nearer += near < far
            further += near > far
    decided = nearer + further
    if decided >= _FEWEST and nearer < _MOST * decided:
        return "those that follow each other are no more alike than others"
    return ""


def _triples(series: Sequence[Sequence[Path]]) -> Iterator[tuple[Path, Path, Path]]:
    """A picture, one beside it, and one of the same series that is far from both; an even sample over all series."""
    long = [files for files in series if len(files) > 2]
    for files in long[:: max(1, len(long) // _SAMPLE)]:
        count = len(files)
        wanted = max(1, _SAMPLE // len(long))
        for at in np.unique(np.linspace(0, count - 1, min(wanted, count)).astype(int)).tolist():
            beside = at + 1 if at + 1 < count else at - 1
            away = at + max(2, count // 2)
            away = away if away < count else at - max(2, count // 2)
            if away >= 0:
                yield files[at], files[beside], files[away]


def _colourful(path: Path) -> bool:
    """Whether a picture is in colour, not grey in three channels."""
    picture = _small(path)
    return picture is not None and len(picture) == 3 and float(np.ptp(picture, axis=0).mean()) >= _COLOURFUL


def _small(path: Path) -> NDArray[np.float32] | None:
    """Every n-th pixel of a picture, (channels, y, x); None where it cannot be read, which is said elsewhere."""
    try:
        array = read_channels(path)[0][:, 0]
    except DataError:
        return None
    step = max(1, max(array.shape[1:]) // _SIDE)
    return array[:, ::step, ::step]
