"""How the scans of a data set lie in the slice plane: place, turn and size of each, found without any label.

A turn counts as known where most pairs of scans agree with it and where a second opinion, of edges alone, says the same
(:mod:`fewlabel.data.pose_matching` compares them). How right the angles are on ACDC, and on whom the thresholds were
chosen, is in decision 0013; ``benchmarks/pose_error.py`` prints how much hangs on each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.pose_matching import Matched, Matching, match_views, wrapped
from fewlabel.data.pose_thumbnails import View


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


@dataclass(frozen=True)
class Thresholds:
    """What makes a scan comparable and its turn known.

    Attributes:
        agree: Degrees within which a pair agrees with two angles, and edges with the whole picture.
        share: Of a scan's pairs, which must agree with its angle.
        common_moving: Median correlation of edges up to which a scan has nothing in common with the others, where
            motion shows the body. Real pictures have more, smooth noise less.
        common_still: The same where nothing shows the body.
    """

    agree: float = 30.0
    share: float = 0.7
    common_moving: float = 0.3
    common_still: float = 0.4


def estimate_poses(views: Sequence[View]) -> list[Pose]:
    """The pose of every view, in order.

    Args:
        views: Pictures of one data set, all of one shape.
    """
    matched = match_views(views, Matching())
    if matched is None:
        return [Pose(view.subject, view.cases, None, None, None) for view in views]
    return judged_poses(views, matched, Thresholds())


def judged_poses(views: Sequence[View], matched: Matched, thresholds: Thresholds) -> list[Pose]:
    """The poses of these views, as far as their comparison is sure enough."""
    alike, known = judge(matched, thresholds)
    middle = float(np.angle(np.exp(1j * matched.angles[known]).sum())) if known.any() else 0.0
    turns = np.degrees(wrapped(matched.angles - middle))
    sizes = matched.sizes - (matched.sizes[alike].mean() if alike.any() else 0.0)
    poses = []
    for row, view in enumerate(views):
        if not alike[row]:
            poses.append(Pose(view.subject, view.cases, None, None, None))
            continue
        offset = (matched.centres[row] - (np.array(view.image.shape) - 1) / 2) * view.shrink
        turn = round(float(turns[row]), 1) if known[row] else None
        shift = (round(float(offset[0]), 1), round(float(offset[1]), 1))
        poses.append(Pose(view.subject, view.cases, shift, round(float(np.exp(sizes[row])), 3), turn))
    return poses


def judge(matched: Matched, thresholds: Thresholds) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which scans look like the others, (n,), and of which of these the turn is clear, (n,)."""
    angles, agree = matched.angles, float(np.radians(thresholds.agree))
    off = ~np.eye(len(angles), dtype=bool)
    least = thresholds.common_moving if matched.moving else thresholds.common_still
    alike = (matched.common > least) & (matched.peaks.max(axis=1) > 0)
    near = (np.abs(wrapped(matched.turns - (angles[:, None] - angles))) < agree) & off
    clear = near.sum(axis=1) >= thresholds.share * (len(angles) - 1)
    difference = np.asarray(wrapped(matched.edge_angles - angles), np.float64)
    return alike, alike & clear & (np.abs(wrapped(difference - _middle_angle(difference, agree))) < agree)


def _middle_angle(angles: NDArray[np.float64], agree: float) -> float:
    """Circular mean of the bulk."""
    middle = float(np.angle(np.exp(1j * angles).sum()))
    for _ in range(10):
        near = np.abs(wrapped(angles - middle)) < 1.5 * agree
        middle = float(np.angle(np.exp(1j * angles[near]).sum())) if near.any() else middle
    return middle
