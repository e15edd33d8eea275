"""Pictures of scans compared with each other: one angle, place and size of each that agrees with all the others.

Every scan is compared with every other (:mod:`fewlabel.data.in_plane_registration`). Angles that agree with all pairs
at once come from the leading eigenvector of the matrix of turns (angular synchronisation: Singer, Applied and
Computational Harmonic Analysis 2011); then every scan is shifted and turned to the mean of the others, and the
pairs are compared again. What moves between two phases of a subject shows where to look; where there is one phase, the
middle of the field of view does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fewlabel.data.in_plane_registration import ANGLES, LAGS, RING_STEP, Fields, fit_to_mean, match_all
from fewlabel.data.motion_region import moving_bodies
from fewlabel.data.pose_thumbnails import View

#: Fewer scans say nothing of a data set.
LEAST = 4
#: Radius below which a picture shows too little, in pixels.
_SMALLEST = 4.0

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Matching:
    """How far pictures are compared.

    Attributes:
        moving: Radius of the disc that is compared, over the size of what moves.
        seen: The same over half of the field of view, at most.
        rounds: How often every scan is laid on the mean of the others.
    """

    moving: float = 2.4
    seen: float = 0.95
    rounds: int = 3


@dataclass(frozen=True)
class Matched:
    """What comparing n scans gave.

    Attributes:
        moving: Whether motion shows the body.
        centres: (n, 2) places (row, column) in pixels of the picture.
        angles: (n,) radians, up to one common turn.
        edge_angles: (n,) the same by edges alone, up to another common turn.
        turns: (n, n) measured angle of row less that of column.
        peaks: (n, n) correlations at these turns, 0 or more, 0 on the diagonal.
        common: (n,) median correlation of edges with the others.
        ratios: (n, n) measured logarithm of the magnification of row over column.
        trust: (n, n) weight of each ratio.
        sizes: (n,) logarithms of the magnifications that agree with them, up to one common number.
    """

    moving: bool
    centres: Floats
    angles: Floats
    edge_angles: Floats
    turns: Floats
    peaks: Floats
    common: Floats
    ratios: Floats
    trust: Floats
    sizes: Floats


def match_views(views: Sequence[View], matching: Matching) -> Matched | None:
    """Compare pictures of one data set; None where they are fewer than four, or show too little.

    Args:
        views: All of one shape.
        matching: How far they are compared.
    """
    if len(views) < LEAST:
        return None
    boxes = np.array([view.box for view in views])
    centres = np.stack([boxes[:, :2].mean(axis=1), boxes[:, 2:].mean(axis=1)], axis=1)
    half = float(np.median(np.minimum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]))) / 2
    radius = matching.seen * half
    if radius < _SMALLEST:
        return None
    moving = np.array([view.motion is not None for view in views])
    if 2 * moving.sum() < len(views):
        moving[:] = False
    if moving.any():
        centres[moving], size = moving_bodies([view for view in views if view.motion is not None])
        radius = min(radius, matching.moving * size)
    fields = _fields(views, moving, boxes, radius)
    turns, peaks = _best(match_all(fields, centres, radius))
    angles = synchronise(turns, peaks**2)
    for _ in range(matching.rounds):
        centres, angles = fit_to_mean(fields, centres, angles, radius)
    scores = match_all(fields, centres, radius)
    turns, peaks = _best(scores)
    angles = synchronise(turns, peaks**2)
    edge_turns, edge_peaks = _best(match_all(_edges(fields, radius), centres, radius))
    others = ~np.eye(len(views), dtype=bool)
    ratios, trust = size_ratios(scores, angles)
    return Matched(
        moving=bool(moving.any()),
        centres=centres,
        angles=angles,
        edge_angles=synchronise(edge_turns, edge_peaks**2),
        turns=turns,
        peaks=peaks,
        common=np.array([np.median(row[mask]) for row, mask in zip(edge_peaks, others, strict=True)]),
        ratios=ratios,
        trust=trust,
        sizes=agreed_sizes(ratios, trust),
    )


def synchronise(turns: Floats, weights: Floats) -> Floats:
    """Angles whose differences agree best with measured ones.

    Args:
        turns: (n, n) measured angle of row less that of column, in radians.
        weights: (n, n) trust in each, 0 or more; the diagonal does not count.

    Returns:
        (n,) radians, up to one common turn: the phases of the leading eigenvector of weights · exp(i turns).
    """
    matrix = weights * np.exp(1j * turns)
    matrix = (matrix + matrix.conj().T) / 2
    np.fill_diagonal(matrix, 0)
    return np.asarray(np.angle(np.linalg.eigh(matrix)[1][:, -1]))


def wrapped(angles: Floats) -> Floats:
    """Radians brought to [-pi, pi)."""
    return np.asarray((angles + np.pi) % (2 * np.pi) - np.pi)


def _fields(views: Sequence[View], moving: NDArray[np.bool_], boxes: Floats, radius: float) -> Fields:
    """Blurred images, and where most views have it the root of the motion."""
    blank = np.zeros_like(views[0].image)
    channels = [[view.image for view in views]]
    present = [np.ones(len(views), bool)]
    if moving.any():
        channels.append([blank if view.motion is None else np.sqrt(view.motion) for view in views])
        present.append(moving)
    blurred = [[ndimage.gaussian_filter(picture, radius / 30) for picture in channel] for channel in channels]
    return Fields(np.asarray(blurred, np.float32), np.stack(present), np.asarray(boxes, np.float64))


def _best(scores: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """(n, n) turn of the highest correlation over all magnifications, and that correlation, at least 0."""
    highest = scores.max(axis=2)
    turns = highest.argmax(axis=2) * 2 * np.pi / ANGLES
    peaks = np.clip(highest.max(axis=2), 0, None).astype(np.float64)
    np.fill_diagonal(peaks, 0)
    return turns, peaks


def _edges(fields: Fields, radius: float) -> Fields:
    """Blurred edges of the first channel alone."""
    edges = [ndimage.gaussian_gradient_magnitude(picture, max(radius / 60, 0.5)) for picture in fields.channels[0]]
    roots = [np.sqrt(ndimage.gaussian_filter(picture, radius / 30)) for picture in edges]
    return Fields(np.asarray([roots], np.float32), fields.present[:1], fields.boxes)


def size_ratios(scores: NDArray[np.float32], angles: Floats) -> tuple[Floats, Floats]:
    """(n, n) logarithm of the magnification of row over column at these angles, and how much each is trusted.

    Args:
        scores: As :func:`fewlabel.data.in_plane_registration.match_all` gives them.
        angles: (n,) radians.
    """
    count = len(angles)
    step = np.rint((angles[:, None] - angles) / (2 * np.pi / ANGLES)).astype(int) % ANGLES
    pairs = np.indices((count, count))
    profile = scores[pairs[0], pairs[1], :, step].astype(np.float64)
    peak = profile.argmax(axis=2)
    inner = np.clip(peak, 1, 2 * LAGS - 1)
    low, top, high = (np.take_along_axis(profile, (inner + at)[..., None], 2)[..., 0] for at in (-1, 0, 1))
    bend = low - 2 * top + high
    between = np.where((peak == inner) & (bend < 0), 0.5 * (low - high) / np.where(bend < 0, bend, -1.0), 0.0)
    ratios = (peak - LAGS + np.clip(between, -0.5, 0.5)) * RING_STEP
    trust = np.clip(profile.max(axis=2), 0, None) ** 2
    np.fill_diagonal(trust, 0)
    return ratios, trust


def agreed_sizes(ratios: Floats, trust: Floats) -> Floats:
    """(n,) logarithm of each magnification, mean 0: what agrees best with the pairs, outliers aside."""
    sizes = np.zeros(len(ratios))
    for _ in range(30):
        weights = trust * np.exp(-(((ratios - sizes[:, None] + sizes) / (1.5 * RING_STEP)) ** 2))
        sizes = (weights * (ratios + sizes)).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
        sizes -= sizes.mean()
    return sizes
