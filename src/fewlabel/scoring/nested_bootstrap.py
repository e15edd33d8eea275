"""Bootstrap of repeated trainings: draws, the seeds in each, and test patients are drawn anew together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.rng import numpy_stream
from fewlabel.scoring.replicates import Scores, means_over
from fewlabel.scoring.statistics import Interval

BOOTSTRAP_RULE = (
    "Percentile bootstrap: draws are resampled, the seeds within each, and test patients; patients whom several draws "
    "are scored on are resampled once for all of these draws, since they are the same persons. Of few draws a "
    "bootstrap is too narrow; verdicts go by the paired test."
)
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Resample:
    """How often each draw, seed and patient was taken.

    Attributes:
        trainings: (draws, seeds) weights.
        patients: (draws, patients) weights.
    """

    trainings: Array
    patients: Array

    def mean(self, scores: Scores) -> float:
        """Weighted mean over draws of the mean over seeds of the mean over patients; NaN if nothing was taken.

        Args:
            scores: (draws, seeds, patients) of the shape that was resampled.
        """
        known = ~np.isnan(scores)
        weights = self.patients[:, None, :] * known
        sums = (np.where(known, scores, 0.0) * weights).sum(axis=2)
        counts = weights.sum(axis=2)
        trainings = np.where(counts > 0, self.trainings, 0.0)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(counts > 0, sums / counts, 0.0)
            return float((means * trainings).sum() / trainings.sum()) if trainings.sum() else float("nan")


def resamples(known: NDArray[np.bool_], count: int, seed: int, *purpose: str | int) -> Iterator[Resample]:
    """Draw draws, seeds and patients with replacement.

    Args:
        known: (draws, seeds, patients), where there is a score.
        count: Number of resamples.
        seed: Seed of the resampling.
        purpose: What it is for: equal purposes and shapes give equal resamples.
    """
    draws, seeds, people = known.shape
    generator = numpy_stream(seed, "study bootstrap", count, draws, seeds, people, *purpose)
    trained, scored = np.asarray(known.any(axis=2)), np.asarray(known.any(axis=1))
    shared = scored.sum(axis=0).max(initial=0) > 1 or draws == 1
    for _ in range(count):
        taken = np.bincount(generator.integers(0, draws, draws), minlength=draws).astype(float)
        trainings = np.zeros((draws, seeds))
        for at in range(draws):
            there = np.flatnonzero(trained[at])
            if taken[at] and there.size:
                picks = generator.integers(0, there.size, there.size)
                trainings[at, there] = taken[at] * np.bincount(picks, minlength=there.size) / there.size
        if shared:
            weights = np.bincount(generator.integers(0, people, people), minlength=people).astype(float)
            patients = np.broadcast_to(weights, (draws, people))
        else:
            patients = np.zeros((draws, people))
            for at in range(draws):
                there = np.flatnonzero(scored[at])
                if there.size:
                    patients[at, there] = np.bincount(
                        generator.integers(0, there.size, there.size), minlength=there.size
                    )
        yield Resample(trainings, patients)


def nested_bootstrap(scores: Scores, *, confidence: float = 0.95, count: int = 2000, seed: int = 0) -> Interval:
    """Mean over draws with a percentile interval over draws, seeds and patients.

    Args:
        scores: (draws, seeds, patients), NaN where there is no score.
        confidence: Coverage, in (0, 1).
        count: Number of resamples.
        seed: Seed of the resampling.

    Example:
        >>> nested_bootstrap(np.full((3, 1, 4), 0.7)).low
        0.7
    """
    known = ~np.isnan(scores)
    people = int(known.any(axis=(0, 1)).sum())
    draws = means_over(means_over(scores, axis=2), axis=1)
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return Interval(None, None, None, None, 0, 0)
    mean, std = float(draws.mean()), float(draws.std(ddof=1)) if draws.size > 1 else None
    if draws.size < 2 and people < 2:
        return Interval(mean, std, None, None, int(draws.size), people)
    means = bootstrap_of(lambda taken: taken.mean(scores), known, count, seed)
    tail = 50.0 * (1.0 - confidence)
    low, high = (float(end) for end in np.nanpercentile(means, [tail, 100.0 - tail]))
    return Interval(mean, std, round(low, 12), round(high, 12), int(draws.size), people)


def bootstrap_of(statistic: Callable[[Resample], float], known: NDArray[np.bool_], count: int, seed: int) -> Array:
    """(count,) values of a statistic over resamples.

    Args:
        statistic: Takes how often each draw, seed and patient was taken.
        known: (draws, seeds, patients), where there is a score.
        count: Number of resamples.
        seed: Seed of the resampling.
    """
    return np.array([statistic(taken) for taken in resamples(known, count, seed)])
