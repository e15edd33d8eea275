"""Small images against each other: turned, magnified and shifted in the plane, by correlation.

Places are (row, column) in pixels, pixel centres at whole numbers. Angles are radians from the column axis towards the
row axis, which is clockwise on a screen, as in :mod:`fewlabel.data.augment`. Outside of a scan's own field of view
nothing counts: every correlation is normalised over the part that both images show.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Floats = NDArray[np.floating]

#: Steps around the circle.
ANGLES = 120
#: Rings of a polar map, from a fifteenth of its radius outwards, and how many rings apart two maps are compared.
RINGS, LAGS = 24, 3
#: Logarithm of the magnification from ring to ring.
RING_STEP = float(np.log(15) / (RINGS - 1))
#: Pixels and angles of the search against the mean.
_SIDE, _TURNS = 32, 24


@dataclass(frozen=True)
class Fields:
    """Images of one data set on one pixel grid, and which part of the grid each scan fills.

    Attributes:
        channels: (channels, n, height, width) float32.
        present: (channels, n), whether the image has that channel.
        boxes: (n, 4) first and last row, first and last column inside the scan's field of view.
    """

    channels: NDArray[np.float32]
    present: NDArray[np.bool_]
    boxes: NDArray[np.float64]

    def sample(self, channel: int, index: int, rows: Floats, columns: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        """Values at places, bilinear, and whether these lie in the field of view."""
        top, bottom, left, right = self.boxes[index]
        inside = (rows >= top) & (rows <= bottom) & (columns >= left) & (columns <= right)
        return ndimage.map_coordinates(self.channels[channel, index], [rows, columns], order=1, mode="nearest"), inside


def match_all(fields: Fields, centres: Floats, radius: float) -> NDArray[np.float32]:
    """How well every image, turned and magnified about its centre, matches every other.

    Args:
        fields: The images.
        centres: (n, 2) places to turn about.
        radius: Of the discs that are compared, in pixels.

    Returns:
        (n, n, 2 LAGS + 1, ANGLES) correlations between -1 and 1, averaged over the channels that both have. Entry
        [j, k, LAGS + d, a] compares image j with image k magnified by exp(d RING_STEP) and turned by a of ANGLES
        steps. -1 where too little is seen of both.
    """
    total = np.zeros((len(centres), len(centres), 2 * LAGS + 1, ANGLES), np.float32)
    shared = np.zeros((len(centres), len(centres)), np.float32)
    for channel, present in enumerate(fields.present):
        rows = np.flatnonzero(present)
        if rows.size:
            maps = [_polar_map(fields, channel, int(row), centres[row], radius) for row in rows]
            pairs = np.ix_(rows, rows)
            total[pairs] += _correlate(np.stack([value for value, _ in maps]), np.stack([inside for _, inside in maps]))
            shared[pairs] += 1
    return np.asarray(total / np.maximum(shared, 1)[..., None, None], np.float32)


def _ring_radii(radius: float) -> Floats:
    return np.asarray(radius * np.exp(RING_STEP * np.arange(1 - RINGS, 1)))


def _polar_map(fields: Fields, channel: int, index: int, centre: Floats, radius: float) -> tuple[Floats, Floats]:
    """(RINGS, ANGLES) values less their mean, 0 outside of the field of view, and 1 inside of it."""
    turns = np.arange(ANGLES) * 2 * np.pi / ANGLES
    radii = _ring_radii(radius)[:, None]
    values, inside = fields.sample(channel, index, centre[0] + radii * np.sin(turns), centre[1] + radii * np.cos(turns))
    return _centred(values, inside), inside.astype(np.float32)


def _centred(values: Floats, inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Values less their mean inside of the field of view, 0 outside."""
    mean = values[inside].mean() if inside.any() else 0.0
    return np.where(inside, values - mean, 0).astype(np.float32)


def _correlate(values: Floats, inside: Floats) -> NDArray[np.float32]:
    """(n, n, 2 LAGS + 1, ANGLES) normalised correlation of polar maps, by FFT along the angle."""
    weights = _ring_radii(1.0).astype(np.float32)[:, None]
    spectra = [np.fft.rfft(part, axis=2).astype(np.complex64) for part in (values, values**2, inside)]

    def lagged(first: NDArray[np.complex64], second: NDArray[np.complex64], lag: int) -> Floats:
        ahead, behind = slice(max(0, lag), RINGS + min(0, lag)), slice(max(0, -lag), RINGS + min(0, -lag))
        left = (first[:, ahead] * weights[ahead]).transpose(2, 0, 1)
        products = left @ second[:, behind].conj().transpose(2, 1, 0)
        return np.fft.irfft(np.moveaxis(products, 0, 2), ANGLES, axis=2)

    value, square, mask = spectra
    correlations = np.empty((len(values), len(values), 2 * LAGS + 1, ANGLES), np.float32)
    for lag in range(-LAGS, LAGS + 1):
        energy = np.clip(lagged(square, mask, lag), 0, None) * np.clip(lagged(mask, square, lag), 0, None)
        common = lagged(mask, mask, lag)
        scores = lagged(value, value, lag) / np.sqrt(np.maximum(energy, 1e-8))
        enough = common >= np.maximum(0.6 * common.max(axis=2, keepdims=True), 0.3 * weights.sum() * ANGLES)
        correlations[:, :, lag + LAGS] = np.where(enough, np.clip(scores, -1, 1), -1)
    return correlations


def fit_to_mean(
    fields: Fields, centres: Floats, turns: Floats, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Shift and turn every image to match the mean of all others as they lie now.

    Args:
        fields: The images.
        centres: (n, 2) their places.
        turns: (n,) their angles.
        radius: As for :func:`match_all`. What lies within half of it counts most, and nothing moves further.

    Returns:
        New places and angles; of an image without contrast, the old ones.
    """
    count = len(centres)
    width, pixel = 0.45 * radius, 2.16 * radius / _SIDE
    axis = (np.arange(_SIDE) - (_SIDE - 1) / 2) * pixel
    window = np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * width**2))
    scores = np.zeros((count, _TURNS, _SIDE, _SIDE), np.float32)
    steps = np.arange(_TURNS) * 2 * np.pi / _TURNS
    for channel, present in enumerate(fields.present):
        rows = np.flatnonzero(present)
        laid = np.zeros((count, _SIDE, _SIDE))
        for row in rows:
            values, inside = fields.sample(channel, int(row), *_lattice(axis, centres[row], turns[row]))
            weight = window * inside
            values = (values - (values * weight).sum() / max(weight.sum(), 1e-8)) * weight
            laid[row] = values / max(float(np.linalg.norm(values)), 1e-8)
        for row in rows:
            template = laid.sum(axis=0) - laid[row]
            norm = float(np.linalg.norm(template))
            if norm > 1e-6 and laid[row].any():
                places = (_lattice(axis, centres[row], turns[row] + step) for step in steps)
                turned = [fields.sample(channel, int(row), *place) for place in places]
                scores[row] += _against(template / norm, window, turned)
    return _moved(scores, centres, turns, pixel, int(0.5 * width / pixel))


def _lattice(axis: Floats, centre: Floats, turn: float) -> tuple[Floats, Floats]:
    """Rows and columns of the points of a square grid about a place, turned by an angle."""
    down, right = axis[:, None], axis[None, :]
    cosine, sine = np.cos(turn), np.sin(turn)
    return centre[0] + sine * right + cosine * down, centre[1] + cosine * right - sine * down


def _against(template: Floats, window: Floats, turned: list[tuple[Floats, NDArray[np.bool_]]]) -> NDArray[np.float32]:
    """(turns, side, side) correlation of a template with turned copies of an image; no shift is in the middle."""
    stack = np.stack([_centred(values, inside) for values, inside in turned])
    spectrum, frame = np.fft.rfft2(stack), np.fft.rfft2(window).conj()
    product = np.fft.irfft2(np.fft.rfft2(template).conj() * spectrum, stack.shape[1:])
    mean = np.fft.irfft2(frame * spectrum, stack.shape[1:])
    square = np.fft.irfft2(frame * np.fft.rfft2(stack**2), stack.shape[1:])
    energy = np.maximum(square - mean**2 / window.sum(), 1e-3 * max(float(square.max()), 1e-12))
    scores = np.roll(product / np.sqrt(energy), (_SIDE // 2, _SIDE // 2), (1, 2))
    return np.asarray(scores, np.float32)


def _moved(
    scores: Floats, centres: Floats, turns: Floats, pixel: float, reach: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Places and angles of the best scores within ``reach`` pixels of the search grid."""
    middle = slice(_SIDE // 2 - reach, _SIDE // 2 + reach + 1)
    near = scores[:, :, middle, middle]
    places, angles = np.array(centres, np.float64), np.array(turns, np.float64)
    for row, own in enumerate(near):
        if own.max() > 0:
            step, down, right = np.unravel_index(int(own.argmax()), own.shape)
            angles[row] = turns[row] + step * 2 * np.pi / _TURNS
            cosine, sine = np.cos(angles[row]), np.sin(angles[row])
            y, x = (int(down) - reach) * pixel, (int(right) - reach) * pixel
            places[row] = centres[row] + np.array([sine * x + cosine * y, cosine * x - sine * y])
    return places, angles
