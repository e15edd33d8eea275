"""How many draws of labelled patients it would take to see a gain of a given size."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fewlabel.scoring.paired_test import Components, bounded_freedom, components
from fewlabel.scoring.replicates import Paired

#: Nobody runs more draws than this.
MOST_DRAWS = 1000
POWER_RULE = (
    "Draws at which the paired test would see a gain of this size with the stated probability, from the variances of "
    "the differences measured here, on as many test patients. It is that of a comparison by itself: Holm's correction "
    "over several asks for more draws. Where patients alone leave too much "
    "uncertain, no number of draws would do."
)


@dataclass(frozen=True)
class Power:
    """What it would take to see a gain.

    Attributes:
        gain: The gain.
        draws: How many draws; None where no number would do.
        now: Probability to see it with the draws at hand.
        patients: Test patients.
    """

    gain: float
    draws: int | None
    now: float
    patients: int

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def power_of(parts: Components, draws: int, gain: float, *, level: float = 0.05) -> float:
    """Probability that the paired test sees a gain, before any correction, with so many draws on as many patients.

    By the noncentral t distribution with the degrees of freedom that expected mean squares give.

    Args:
        parts: Mean squares of the differences measured.
        draws: Number of draws, 2 or more.
        gain: The true mean difference.
        level: Of the two-sided test.
    """
    from scipy.stats import nct, t

    by_draw, by_patient, rest = parts.variances
    people = parts.shape[1]
    squares = (people * by_draw + rest, draws * by_patient + rest, rest)
    whole = squares[0] + squares[1] - squares[2]
    if whole <= 0:
        return 1.0 if gain else 0.0
    freedoms = (draws - 1, people - 1, (draws - 1) * (people - 1))
    weighted = sum(square**2 / freedom for square, freedom in zip(squares, freedoms, strict=True))
    freedom = whole**2 / weighted
    away = abs(gain) / math.sqrt(whole / (draws * people))
    border = float(t.ppf(1 - level / 2, bounded_freedom(freedom, (draws, people))))
    # A loss that is called one is no gain that is seen.
    return float(nct.sf(border, freedom, away))


def draws_needed(differences: Paired, gain: float = 0.02, *, power: float = 0.8, level: float = 0.05) -> Power | None:
    """How many draws would show a gain.

    Args:
        differences: (draws, patients) paired differences that were measured, as means over seeds.
        gain: What is to be seen, in units of the score.
        power: The probability to see it.
        level: Of the two-sided test.

    Returns:
        None where the differences do not tell: fewer than two draws or patients, a gap, or no variance at all.
    """
    if min(differences.shape) < 2 or np.isnan(differences).any():
        return None
    parts = components(differences)
    if not any(parts.variances):
        return None
    now = power_of(parts, parts.shape[0], gain, level=level)

    def enough(draws: int) -> bool:
        return power_of(parts, draws, gain, level=level) >= power

    if not enough(MOST_DRAWS):
        return Power(gain, None, now, parts.shape[1])
    low, high = 1, MOST_DRAWS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return Power(gain, high, now, parts.shape[1])
