"""How the scans of a data set lie in the slice plane: place, turn and size of each, found without any label.

Every scan is compared with every other (:mod:`fewlabel.data.registration`). Angles that agree with all pairs at once
come from the leading eigenvector of the matrix of turns (angular synchronisation: Singer, Applied and Computational
Harmonic Analysis 2011); then every scan is shifted and turned to the mean of the others, and the pairs are compared
again. What moves between two phases of a subject shows where to look; where there is one phase, the middle of the
field of view does.

A turn counts as known where most pairs agree with it and where a second opinion, of edges alone, says the same.
How right the angles are on ACDC, and on whom the thresholds were chosen, is told in decision 0013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fewlabel.data.moving_body import moving_bodies
from fewlabel.data.pose_views import View
from fewlabel.data.registration import ANGLES, LAGS, RING_STEP, Fields, fit_to_mean, match_all

#: Fewer scans say nothing of a data set.
LEAST = 4
#: Radius of the disc that is compared, over the size of what moves; and over half of the field of view, at most.
_MOVING, _SEEN = 2.4, 0.95
#: Radius below which a picture shows too little, in pixels.
_SMALLEST = 4.0
#: Agreement of turns, in radians, and the share of pairs that must reach it.
_AGREE, _SHARE = np.radians(30), 0.7
#: Median correlation of edges up to which a scan has nothing in common with the others, where motion shows the body
#: and where it does not. Real pictures have more, smooth noise less.
_COMMON_MOVING, _COMMON_STILL = 0.3, 0.4
_ROUNDS = 3

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pose:
    """How one scan, or all phases of one, lies in the prepared slice.

    Attributes:
        subject: Whose.
        cases: Ids of the scans.
        shift: (rows, columns) of its centre from the middle of the slice, in pixels; None if nothing like it was found.
        size: Magnification against the typical scan, 1 for that one; None as for ``shift``.
        turn: Degrees against the mean of all, clockwise on a screen, in (-180, 180]; None where it is not clear.
    """

    subject: str
    cases: tuple[str, ...]
    shift: tuple[float, float] | None
    size: float | None
    turn: float | None


def estimate_poses(views: Sequence[View]) -> list[Pose]:
    """The pose of every view, in order.

    Args:
        views: Pictures of one data set, all of one shape.
    """
    unknown = [Pose(view.subject, view.cases, None, None, None) for view in views]
    if len(views) < LEAST:
        return unknown
    boxes = np.array([view.box for view in views])
    centres = np.stack([boxes[:, :2].mean(axis=1), boxes[:, 2:].mean(axis=1)], axis=1)
    radius = _SEEN * float(np.median(np.minimum(boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]))) / 2
    if radius < _SMALLEST:
        return unknown
    moving = np.array([view.motion is not None for view in views])
    if 2 * moving.sum() < len(views):
        moving[:] = False
    if moving.any():
        centres[moving], size = moving_bodies([view for view in views if view.motion is not None])
        radius = min(radius, _MOVING * size)
    fields = _fields(views, moving, boxes, radius)
    turns, weights = _best(match_all(fields, centres, radius))
    angles = synchronise(turns, weights**2)
    for _ in range(_ROUNDS):
        centres, angles = fit_to_mean(fields, centres, angles, radius)
    scores = match_all(fields, centres, radius)
    turns, weights = _best(scores)
    angles = synchronise(turns, weights**2)
    alike, known = _judged(fields, centres, radius, turns, weights, angles)
    sizes = _sizes(scores, angles, alike)
    return _poses(views, centres, angles, sizes, alike, known)


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
    return Fields(np.asarray(blurred, np.float32), np.stack(present), boxes)


def _best(scores: NDArray[np.float32]) -> tuple[Floats, Floats]:
    """(n, n) turn of the highest correlation over all magnifications, and that correlation, at least 0."""
    highest = scores.max(axis=2)
    turns = highest.argmax(axis=2) * 2 * np.pi / ANGLES
    peaks = np.clip(highest.max(axis=2), 0, None).astype(np.float64)
    np.fill_diagonal(peaks, 0)
    return turns, peaks


def _judged(
    fields: Fields, centres: Floats, radius: float, turns: Floats, weights: Floats, angles: Floats
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which scans look like the others, and of which of these the turn is clear."""
    edges = [ndimage.gaussian_gradient_magnitude(picture, max(radius / 60, 0.5)) for picture in fields.channels[0]]
    roots = [np.sqrt(ndimage.gaussian_filter(picture, radius / 30)) for picture in edges]
    second = Fields(np.asarray([roots], np.float32), fields.present[:1], fields.boxes)
    other_turns, peaks = _best(match_all(second, centres, radius))
    other = synchronise(other_turns, peaks**2)
    off = ~np.eye(len(angles), dtype=bool)
    common = np.array([np.median(row[mask]) for row, mask in zip(peaks, off, strict=True)])
    least = _COMMON_MOVING if len(fields.present) > 1 else _COMMON_STILL
    alike = (common > least) & (weights.max(axis=1) > 0)
    agree = (np.abs(wrapped(turns - (angles[:, None] - angles))) < _AGREE) & off
    clear = agree.sum(axis=1) >= _SHARE * (len(angles) - 1)
    difference = wrapped(other - angles)
    return alike, alike & clear & (np.abs(wrapped(difference - _middle_angle(difference))) < _AGREE)


def _middle_angle(angles: Floats) -> float:
    """Circular mean of the bulk."""
    middle = float(np.angle(np.exp(1j * angles).sum()))
    for _ in range(10):
        near = np.abs(wrapped(angles - middle)) < 1.5 * _AGREE
        middle = float(np.angle(np.exp(1j * angles[near]).sum())) if near.any() else middle
    return middle


def _sizes(scores: NDArray[np.float32], angles: Floats, alike: NDArray[np.bool_]) -> Floats:
    """(n,) logarithm of each magnification: what agrees best with the pairs, outliers aside; mean 0 over ``alike``."""
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
    sizes = np.zeros(count)
    for _ in range(30):
        weights = trust * np.exp(-(((ratios - sizes[:, None] + sizes) / (1.5 * RING_STEP)) ** 2))
        sizes = (weights * (ratios + sizes)).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-9)
        sizes -= sizes[alike].mean() if alike.any() else 0.0
    return sizes


def _poses(
    views: Sequence[View],
    centres: Floats,
    angles: Floats,
    sizes: Floats,
    alike: NDArray[np.bool_],
    known: NDArray[np.bool_],
) -> list[Pose]:
    middle = float(np.angle(np.exp(1j * angles[known]).sum())) if known.any() else 0.0
    turns = np.degrees(wrapped(angles - middle))
    poses = []
    for row, view in enumerate(views):
        if not alike[row]:
            poses.append(Pose(view.subject, view.cases, None, None, None))
            continue
        offset = (centres[row] - (np.array(view.image.shape) - 1) / 2) * view.shrink
        turn = round(float(turns[row]), 1) if known[row] else None
        shift = (round(float(offset[0]), 1), round(float(offset[1]), 1))
        poses.append(Pose(view.subject, view.cases, shift, round(float(np.exp(sizes[row])), 3), turn))
    return poses
