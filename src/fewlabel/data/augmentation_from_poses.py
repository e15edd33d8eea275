"""Ranges of augmentation that reach from the labelled scans to the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.pose import Pose
from fewlabel.data.pose_record import SHARE, Poses, turn_between

#: What is reached where it is not known how scans lie: wide, as they may lie anyhow.
UNKNOWN_ROTATION, UNKNOWN_SCALE, UNKNOWN_TRANSLATION = 60.0, (0.7, 1.6), 0.12
#: No estimate widens a range beyond these, a factor of 2 and a quarter of the side; rotation ends at half a turn.
WIDEST_SCALE = 2.0
WIDEST_TRANSLATION = 0.25


@dataclass(frozen=True)
class Reach:
    """What takes a labelled scan to 95 % of all others, in the terms of :class:`AugmentConfig`.

    Attributes:
        rotation: Degrees either way.
        scale_low: Smallest magnification, at most 1.
        scale_high: Largest magnification, at least 1.
        translation: Share of the side.

    The defaults are for what is not known.
    """

    rotation: float = UNKNOWN_ROTATION
    scale_low: float = UNKNOWN_SCALE[0]
    scale_high: float = UNKNOWN_SCALE[1]
    translation: float = UNKNOWN_TRANSLATION


def reach(poses: Poses, labelled: Iterable[str]) -> Reach:
    """How far augmentation must go from the labelled scans to look like the others.

    Every other scan is reached from the labelled scan nearest to it, in turn, size and place each. If the pose of no
    labelled scan is known, they may lie like any other: the differences between all scans count.

    Args:
        poses: Of the scans of a store.
        labelled: Subjects whose labels train.
    """
    own = set(labelled)
    ends = [pose for pose in poses.placed if pose.subject not in own]
    starts = [pose for pose in poses.placed if pose.subject in own]
    if not ends:
        return Reach()
    zooms = _nearest(starts, ends, _zoom)
    return Reach(
        _quantile(map(abs, _nearest(starts, ends, _turn))) if poses.turned else UNKNOWN_ROTATION,
        math.exp(-_quantile(max(0.0, -zoom) for zoom in zooms)),
        math.exp(_quantile(max(0.0, zoom) for zoom in zooms)),
        _quantile(_nearest(starts, ends, lambda start, end: _step(start, end, poses.side))),
    )


def wider_ranges(augment: AugmentConfig, target: Reach) -> dict[str, float]:
    """The settings of an augmentation that must change for its ranges to hold what was found; none becomes narrower.

    Values are rounded outwards, to whole degrees and hundredths.

    Args:
        augment: As set.
        target: What its ranges should reach.

    Returns:
        Setting → value; empty where all is held already.
    """
    wanted = {
        "rotation": min(180.0, float(math.ceil(target.rotation - 1e-6))),
        "scale_low": max(1 / WIDEST_SCALE, math.floor(100 * target.scale_low + 1e-6) / 100),
        "scale_high": min(WIDEST_SCALE, math.ceil(100 * target.scale_high - 1e-6) / 100),
        "translation": min(WIDEST_TRANSLATION, math.ceil(100 * target.translation - 1e-6) / 100),
    }
    return {
        name: value
        for name, value in wanted.items()
        if (value < augment.scale_low if name == "scale_low" else value > getattr(augment, name))
    }


def _quantile(values: Iterable[float]) -> float:
    return float(np.quantile(list(values), SHARE))


def _nearest(starts: Sequence[Pose], ends: Sequence[Pose], measure: Callable[[Pose, Pose], float]) -> list[float]:
    """The smallest difference of each end from any start; without a start, that of each pair of ends."""
    if starts:
        return [min((measure(start, end) for start in starts), key=abs) for end in ends]
    return [measure(start, end) for start, end in permutations(ends, 2)] or [0.0]


def _turn(start: Pose, end: Pose) -> float:
    return float(turn_between(end.turn, start.turn))


def _zoom(start: Pose, end: Pose) -> float:
    """Logarithm of the magnification that takes one scan to another."""
    return math.log((end.size or 1.0) / (start.size or 1.0))


def _step(start: Pose, end: Pose, side: tuple[int, int]) -> float:
    """Shift that takes one scan to another, as a share of the side, along the axis where it is larger.

    It is that of the focus in ``Augmenter``, which is moved to the middle before turn and magnification.
    """
    turn = 0.0 if start.turn is None or end.turn is None else math.radians(end.turn - start.turn)
    down, right = _shift(end) / math.exp(_zoom(start, end))
    cosine, sine = math.cos(turn), math.sin(turn)
    back = np.array([cosine * down - sine * right, sine * down + cosine * right])
    return float(np.max(np.abs(_shift(start) - back) / np.asarray(side)))


def _shift(pose: Pose) -> NDArray[np.float64]:
    return np.asarray(pose.shift if pose.shift is not None else (0.0, 0.0), float)
