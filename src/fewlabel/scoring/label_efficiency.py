"""How many labelled patients one arm needs to be as good as another with a few: curves read backwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fewlabel.scoring.nested_bootstrap import resamples
from fewlabel.scoring.replicates import Scores, means_over

Array = NDArray[np.float64]
Bound = Literal["exact", "at most", "more than"]
EFFICIENCY_RULE = (
    "The curve of an arm is its mean at each number of labelled patients M, made non-decreasing by isotonic "
    "regression, and straight between two numbers in log M. Beyond its ends nothing is extrapolated. Ranges are "
    "percentiles over resampled draws and patients."
)


@dataclass(frozen=True)
class Needed:
    """Labelled patients at which a curve reaches a score.

    Attributes:
        labelled: How many; the first or last of the curve where it is a bound.
        bound: ``at most`` if the curve begins above the score, ``more than`` if it ends below it.
        low: Lower end of its range; None where it was not resampled.
        high: Upper end; infinite where the curve often ends below the score.
    """

    labelled: float
    bound: Bound
    low: float | None = None
    high: float | None = None

    def record(self) -> dict[str, Any]:
        """JSON-ready values; an infinite end is None."""
        values = asdict(self)
        return {key: None if value == math.inf else value for key, value in values.items()}


def labels_needed(budgets: Sequence[int], curve: Sequence[float], score: float) -> Needed:
    """At how many labelled patients a curve reaches a score.

    Args:
        budgets: Ascending numbers of labelled patients.
        curve: The score at each.
        score: What is to be reached.

    Raises:
        ValueError: If the numbers do not ascend, or there are not as many scores.

    Example:
        >>> round(labels_needed([1, 2, 4], [0.5, 0.6, 0.8], 0.7).labelled, 2)
        2.83
    """
    if len(budgets) != len(curve) or not budgets or any(b >= a for b, a in pairwise(budgets)):
        raise ValueError(f"a curve needs a score at each of ascending numbers, not {len(curve)} at {list(budgets)}")
    values = isotonic(np.asarray([curve], dtype=np.float64))
    reached = float(_reached(budgets, values, np.array([score], dtype=np.float64))[0])
    if reached == math.inf:
        return Needed(float(budgets[-1]), "more than")
    return Needed(reached, "at most" if score < values[0, 0] else "exact")


def isotonic(curves: Array) -> Array:
    """(curves, points) least-squares fits that never fall.

    Example:
        >>> isotonic(np.array([[1.0, 3.0, 2.0]])).tolist()
        [[1.0, 2.5, 2.5]]
    """
    from scipy.optimize import isotonic_regression

    return np.stack([isotonic_regression(curve).x for curve in curves])


def _reached(budgets: Sequence[int], curves: Array, scores: Array) -> Array:
    """(curves,) labelled patients at which curves that never fall reach scores; infinite beyond their end."""
    logs = np.log(np.asarray(budgets, dtype=np.float64))
    there = curves >= scores[:, None]
    after = np.argmax(there, axis=1)
    before = np.maximum(after - 1, 0)
    rows = np.arange(len(curves))
    above, below = curves[rows, after], curves[rows, before]
    # Of a curve that begins above the score both are its first point, and the step leads nowhere.
    share = (scores - below) / np.where(above > below, above - below, 1.0)
    found = logs[before] + share * (logs[after] - logs[before])
    return np.asarray(np.where(there.any(axis=1), np.exp(found), np.inf))


def equivalent_labels(
    arm: Scores, budgets: Sequence[int], others: Sequence[Scores], *, count: int = 1000, seed: int = 0
) -> Needed:
    """How many labelled patients another arm needs to be as good as this one at its number, with a 95 % range.

    Args:
        arm: (draws, seeds, patients) of the arm at its number of labelled patients.
        budgets: Ascending numbers of labelled patients of the other arm.
        others: (draws, seeds, patients) of the other arm at each of them, of the same patients.
        count: Number of resamples; patients are the same in all curves, draws are each curve's own.
        seed: Seed of the resampling.
    """
    found = labels_needed(budgets, [_mean(scores) for scores in others], _mean(arm))
    first = resamples(~np.isnan(arm), count, seed, "curve", 0)
    means = [first.means(arm)]
    for at, scores in enumerate(others, start=1):
        own = resamples(~np.isnan(scores), count, seed, "curve", at)
        # Patients are the same persons in all curves.
        same = first.patients.ndim == own.patients.ndim == 2 and first.patients.shape == own.patients.shape
        means.append((replace(own, patients=first.patients) if same else own).means(scores))
    drawn = np.stack(means, axis=1)
    drawn = drawn[~np.isnan(drawn).any(axis=1)]
    if not len(drawn):
        return found
    ends = _reached(budgets, isotonic(drawn[:, 1:]), drawn[:, 0])
    low, high = np.quantile(ends, [0.025, 0.975], method="inverted_cdf")
    return Needed(found.labelled, found.bound, float(low), float(high))


def _mean(scores: Scores) -> float:
    return float(means_over(means_over(means_over(scores, axis=2), axis=1), axis=0))
