"""Scores of repeated trainings: over draws of labelled patients, seeds and test patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: (draws, seeds, patients) scores of one arm at one number of labels; NaN where there is none.
Scores = NDArray[np.float64]
#: (draws, patients) scores, or differences of scores, as means over seeds; NaN where there is none.
Paired = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """How far repeated trainings lie apart.

    Attributes:
        mean: Mean over trainings, each a mean over its patients; None without trainings.
        std: Sample standard deviation over trainings; None below two.
        between_draws: Sample standard deviation of the means of the draws; None below two draws.
        within_draws: Standard deviation over seeds of the same draw, pooled; None where no draw has two.
        draws: Number of draws.
        trainings: Number of trainings.
    """

    mean: float | None
    std: float | None
    between_draws: float | None
    within_draws: float | None
    draws: int
    trainings: int

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def spread(scores: Scores) -> Spread:
    """Mean and deviation over draws and seeds.

    Args:
        scores: (draws, seeds, patients).

    Example:
        >>> spread(np.array([[[0.6], [0.8]], [[0.8], [1.0]]])).mean
        0.8
    """
    trainings = means_over(scores, axis=2)
    known = ~np.isnan(trainings)
    values = trainings[known]
    if not values.size:
        return Spread(None, None, None, None, 0, 0)
    draws = means_over(trainings, axis=1)
    draws = draws[~np.isnan(draws)]
    counts = known.sum(axis=1)
    freedom = int((counts[counts > 0] - 1).sum())
    within = None
    if freedom:
        centred = trainings - means_over(trainings, axis=1)[:, None]
        within = float(np.sqrt(np.nansum(centred**2) / freedom))
    return Spread(
        mean=round(float(values.mean()), 12),
        std=float(values.std(ddof=1)) if values.size > 1 else None,
        between_draws=float(draws.std(ddof=1)) if draws.size > 1 else None,
        within_draws=within,
        draws=int(draws.size),
        trainings=int(values.size),
    )


def over_seeds(scores: Scores) -> Paired:
    """(draws, patients) means over the seeds that have a score."""
    return means_over(scores, axis=1)


def means_over(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Means along an axis of the values that are there; NaN where none is."""
    known = ~np.isnan(values)
    counts = known.sum(axis=axis)
    sums = np.where(known, values, 0.0).sum(axis=axis)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counts > 0, sums / counts, np.nan))


def scores_of(values: Mapping[tuple[int, int, str], float]) -> tuple[Scores, list[int], list[int], list[str]]:
    """An array of scores, and what its axes are.

    Args:
        values: (draw, seed, patient) → score.

    Returns:
        The scores; draws, seeds and patients in ascending order.
    """
    draws, seeds, patients = (sorted({key[axis] for key in values}) for axis in range(3))
    places = [{name: at for at, name in enumerate(names)} for names in (draws, seeds, patients)]
    array = np.full((len(draws), len(seeds), len(patients)), np.nan)
    for key, value in values.items():
        array[tuple(place[name] for place, name in zip(places, key, strict=True))] = value  # type: ignore[index]
    return array, draws, seeds, patients  # type: ignore[return-value]
