"""How many labelled patients one arm needs to be as good as another with a few: curves read backwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from fewlabel.scoring.nested_bootstrap import resamples
from fewlabel.scoring.replicates import Scores, means_over

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
        >>> labels_needed([1, 2, 4], [0.5, 0.6, 0.8], 0.7).labelled
        2.8284271247461903
    """
    if len(budgets) != len(curve) or not budgets or any(b >= a for b, a in pairwise(budgets)):
        raise ValueError(f"a curve needs a score at each of ascending numbers, not {len(curve)} at {list(budgets)}")
    from sklearn.isotonic import isotonic_regression

    values = np.asarray(isotonic_regression(np.asarray(curve, dtype=np.float64)))
    if score <= values[0]:
        return Needed(float(budgets[0]), "exact" if score == values[0] else "at most")
    if score > values[-1]:
        return Needed(float(budgets[-1]), "more than")
    after = int(np.argmax(values >= score))
    below, above = values[after - 1], values[after]
    share = (score - below) / (above - below)
    logs = [math.log(budgets[after - 1]), math.log(budgets[after])]
    return Needed(math.exp(logs[0] + share * (logs[1] - logs[0])), "exact")


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
    ends = []
    # Patients are the same persons in all of them; one stream of patients, and one of draws for each curve.
    parts = [resamples(~np.isnan(scores), count, seed, "curve", at) for at, scores in enumerate((arm, *others))]
    for taken in zip(*parts, strict=True):
        people = taken[0].patients[0]
        means = []
        for scores, resample in zip((arm, *others), taken, strict=True):
            same = people.shape[0] == scores.shape[2]
            weights = np.broadcast_to(people, (scores.shape[0], scores.shape[2])) if same else resample.patients
            means.append(type(resample)(resample.trainings, weights).mean(scores))
        if not np.isnan(means).any():
            needed = labels_needed(budgets, means[1:], means[0])
            ends.append(math.inf if needed.bound == "more than" else needed.labelled)
    if not ends:
        return found
    low, high = np.quantile(ends, [0.025, 0.975], method="inverted_cdf")
    return Needed(found.labelled, found.bound, float(low), float(high))


def _mean(scores: Scores) -> float:
    return float(means_over(means_over(means_over(scores, axis=2), axis=1), axis=0))
