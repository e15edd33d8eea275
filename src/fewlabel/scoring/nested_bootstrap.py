"""Bootstrap of repeated trainings: draws, the seeds in each, and test patients are drawn anew together."""

from __future__ import annotations

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
class Resamples:
    """How often each draw, seed and patient was taken in each of many resamples.

    Attributes:
        trainings: (resamples, draws, seeds) weights.
        patients: (resamples, patients) weights of patients whom all draws share, or (resamples, draws, patients).
    """

    trainings: Array
    patients: Array

    def means(self, scores: Scores) -> Array:
        """(resamples,) means over draws of the mean over seeds of the mean over patients; NaN where nothing was taken.

        Args:
            scores: (draws, seeds, patients) of the shape that was resampled.
        """
        known = ~np.isnan(scores)
        way = "rp,dsp->rds" if self.patients.ndim == 2 else "rdp,dsp->rds"
        sums = np.einsum(way, self.patients, np.where(known, scores, 0.0), optimize=True)
        counts = np.einsum(way, self.patients, known.astype(np.float64), optimize=True)
        weights = np.where(counts > 0, self.trainings, 0.0)
        whole = weights.sum(axis=(1, 2))
        with np.errstate(invalid="ignore", divide="ignore"):
            means = np.where(counts > 0, sums / counts, 0.0)
            return np.asarray(np.where(whole > 0, (means * weights).sum(axis=(1, 2)) / whole, np.nan))


def resamples(known: NDArray[np.bool_], count: int, seed: int, *purpose: str | int) -> Resamples:
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

    def taken(there: NDArray[np.bool_]) -> Array:
        """(resamples, length) how often each of those that are there was taken."""
        number = int(there.sum())
        if not number:
            return np.zeros((count, len(there)))
        return generator.multinomial(number, there / number, size=count).astype(np.float64)

    trainings = np.stack([taken(row) / max(int(row.sum()), 1) for row in trained], axis=1)
    trainings *= taken(np.asarray(trained.any(axis=1)))[:, :, None]
    shared = scored.sum(axis=0).max(initial=0) > 1 or draws == 1
    patients = taken(np.asarray(scored.any(axis=0))) if shared else np.stack([taken(row) for row in scored], axis=1)
    return Resamples(trainings, patients)


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
    means = resamples(known, count, seed).means(scores)
    tail = 50.0 * (1.0 - confidence)
    low, high = (float(end) for end in np.nanpercentile(means, [tail, 100.0 - tail]))
    return Interval(mean, std, round(low, 12), round(high, 12), int(draws.size), people)
