"""Whether a figure that needs no annotation, such as disagreement, finds the scans whose masks failed."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.rng import numpy_stream

#: Mean Dice of a scan below which its mask counts as failed.
FAILED = 0.5
#: Fewest subjects with a failed scan, and with another, between which an interval can be told.
FEWEST_SUBJECTS = 2


def failure_detection(
    signs: Sequence[float],
    dice: Sequence[float],
    subjects: Sequence[Hashable],
    *,
    below: float = FAILED,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The area under the ROC curve: how often a failed scan has the larger sign than one that did not fail.

    1 where all failed scans come first, 0.5 by chance. Ties count half (Mann & Whitney 1947; Hanley & McNeil 1982).
    The interval resamples whole subjects, as :func:`fewlabel.scoring.statistics.bootstrap_interval` does; resamples in
    which all scans or none failed have no area and are passed over.

    Args:
        signs: One per scan, larger where failure is more likely.
        dice: Mean Dice of each scan.
        subjects: The subject of each scan.
        below: Dice below which a scan counts as failed.
        confidence: Coverage of the interval, in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Returns:
        JSON-ready: ``below``, ``failed`` (number of scans), ``auroc``, ``low`` and ``high``. The area is None without
        scans of both kinds, the interval unless two subjects or more have a scan of each.

    Raises:
        ValueError: If the sequences differ in length.
    """
    if not len(signs) == len(dice) == len(subjects):
        raise ValueError(f"{len(signs)} signs, {len(dice)} scores and {len(subjects)} subjects")
    failed = np.asarray(dice, dtype=np.float64) < below
    found: dict[str, Any] = {"below": below, "failed": int(failed.sum()), "auroc": None, "low": None, "high": None}
    if failed.all() or not failed.any():
        return found
    values = np.asarray(signs, dtype=np.float64)
    bad, good = values[failed][:, None], values[~failed]
    ahead = (bad > good) + 0.5 * (bad == good)
    names = list(dict.fromkeys(subjects))
    owner = np.array([names.index(subject) for subject in subjects])
    found["auroc"] = float(ahead.mean())
    if min(len(set(owner[failed])), len(set(owner[~failed]))) >= FEWEST_SUBJECTS:
        areas = _resampled(ahead, owner[failed], owner[~failed], len(names), resamples, seed)
        tail = 50.0 * (1.0 - confidence)
        if areas.size:
            found["low"], found["high"] = (float(end) for end in np.percentile(areas, [tail, 100.0 - tail]))
    return found


def _resampled(
    ahead: NDArray[np.float64],
    bad: NDArray[np.integer[Any]],
    good: NDArray[np.integer[Any]],
    count: int,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Areas of resamples of ``count`` subjects, from the order of all pairs and the subjects of both kinds of scans."""
    generator = numpy_stream(seed, "failures", resamples, count)
    drawn = generator.integers(0, count, size=(resamples, count))
    times = np.stack([np.bincount(row, minlength=count) for row in drawn]).astype(np.float64)
    first, second = times[:, bad], times[:, good]
    pairs = first.sum(axis=1) * second.sum(axis=1)
    in_order = ((first @ ahead) * second).sum(axis=1)
    areas: NDArray[np.float64] = in_order[pairs > 0] / pairs[pairs > 0]
    return areas
