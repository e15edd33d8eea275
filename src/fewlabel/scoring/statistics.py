"""Means with their uncertainty, and paired comparisons, with the subject as the unit."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.rng import numpy_stream

#: Mean Dice below which a network is of no use, whatever its gain over another.
USELESS = 0.1


def useless_sentence(dice: float | None) -> str:
    """What is to be said of a network whose mean Dice is near 0; empty for any other, and where nothing is known."""
    if dice is None or dice >= USELESS:
        return ""
    return f"With a mean Dice of {dice:.2f} the network finds next to nothing: it is of no use, whatever its gain."


def is_drawn(verdict: str) -> bool:
    """Whether a :attr:`Comparison.verdict` says gain, loss or neither; if not, it says why that cannot be told."""
    return verdict == "no difference" or verdict.endswith("the noise")


@dataclass(frozen=True)
class Interval:
    """A mean and how sure it is.

    Attributes:
        mean: Mean of the values; None without values.
        std: Sample standard deviation; None below two values.
        low: Lower end of the interval; None where one subject or draw, or two subjects of a bootstrap, say nothing
            about the next.
        high: Upper end of the interval.
        n: Number of values.
        subjects: Number of independent units behind them.
    """

    mean: float | None
    std: float | None
    low: float | None
    high: float | None
    n: int
    subjects: int

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """A model against its control on the same cases.

    Attributes:
        gain: Mean paired difference, model minus control, with its interval over subjects.
        p: Two-sided Wilcoxon signed-rank p over subjects' mean differences; None below two subjects.
        verdict: What may be said, in words, as :func:`is_drawn` has it.
    """

    gain: Interval
    p: float | None
    verdict: str

    def record(self) -> dict[str, Any]:
        """JSON-ready values: those of the gain, ``p`` and ``verdict``."""
        return {**self.gain.record(), "p": self.p, "verdict": self.verdict}


def bootstrap_interval(
    values: Sequence[float | None],
    subjects: Sequence[Hashable],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Mean over cases with a percentile bootstrap interval that resamples whole subjects.

    Scans of one subject are not independent, so a resample draws subjects with replacement and takes all their cases
    (cluster bootstrap; Field & Welsh, JRSS-B 2007). Values of None or NaN are left out.

    Args:
        values: One per case.
        subjects: The subject of each case.
        confidence: Coverage, in (0, 1).
        resamples: Number of resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: If the two sequences differ in length.
    """
    sums, counts, kept = _by_subject(values, subjects)
    if not kept.size:
        return Interval(None, None, None, None, 0, 0)
    mean, std = float(kept.mean()), float(kept.std(ddof=1)) if kept.size > 1 else None
    low = high = None
    # A bootstrap of two gives back the two.
    if sums.size > 2:
        generator = numpy_stream(seed, "bootstrap", resamples, sums.size)
        rows = generator.integers(0, sums.size, size=(resamples, sums.size))
        means = sums[rows].sum(axis=1) / counts[rows].sum(axis=1)
        tail = 50.0 * (1.0 - confidence)
        low, high = (float(end) for end in np.percentile(means, [tail, 100.0 - tail]))
    return Interval(mean, std, low, high, int(kept.size), int(sums.size))


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Mean of a few independent draws with Student's t interval, mean ± t·s/√n.

    Args:
        values: One per draw, e.g. the gain over the control; at least two give an interval.
        confidence: Coverage, in (0, 1).
    """
    kept = np.asarray(values, dtype=np.float64)
    count = int(kept.size)
    if count < 2:
        return Interval(float(kept[0]) if count else None, None, None, None, count, count)
    from scipy.stats import t

    mean, std = float(kept.mean()), float(kept.std(ddof=1))
    half = float(t.ppf(0.5 + confidence / 2.0, count - 1)) * std / math.sqrt(count)
    return Interval(mean, std, mean - half, mean + half, count, count)


def paired_comparison(
    model: Sequence[float | None],
    control: Sequence[float | None],
    subjects: Sequence[Hashable],
    *,
    larger_is_better: bool = True,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Model against control, case by case, judged over subjects.

    Args:
        model: One value per case; None or NaN where undefined (the case is then left out).
        control: The control's value of the same cases, in the same order.
        subjects: The subject of each case.
        larger_is_better: False for distances.
        confidence: Coverage of the interval; the test uses the level 1 - ``confidence``.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling.

    Raises:
        ValueError: If the sequences differ in length.
    """
    pairs = zip(_numbers(model), _numbers(control), strict=True)
    differences = [float(ours - theirs) for ours, theirs in pairs]
    gain = bootstrap_interval(differences, subjects, confidence=confidence, resamples=resamples, seed=seed)
    sums, counts, _ = _by_subject(differences, subjects)
    p = signed_rank_p(sums / counts) if sums.size > 1 else None
    return Comparison(gain, p, _verdict(gain, p, larger_is_better=larger_is_better, level=1.0 - confidence))


def signed_rank_p(differences: NDArray[np.float64]) -> float:
    """Two-sided Wilcoxon signed-rank p (Biometrics 1945); zero differences are dropped, 1 if all are zero.

    Differences are compared to 12 decimals, so that rounding noise makes no ranks.
    """
    from scipy.stats import wilcoxon

    rounded = np.round(np.asarray(differences, dtype=np.float64), 12)
    rounded = rounded[rounded != 0]
    return float(wilcoxon(rounded).pvalue) if rounded.size else 1.0


def _verdict(gain: Interval, p: float | None, *, larger_is_better: bool, level: float) -> str:
    if gain.mean is None:
        return "no case to compare"
    if gain.subjects < 2:
        return "one patient says nothing about the next"
    # The smallest two-sided p of n subjects is 2 / 2^n.
    fewest = math.floor(1.0 + math.log2(1.0 / level)) + 1
    if gain.subjects < fewest or p is None or gain.low is None or gain.high is None:
        return f"{gain.subjects} patients are too few to tell a gain from a loss (at least {fewest})"
    if gain.mean == 0:
        return "no difference"
    word = "gain" if (gain.mean > 0) == larger_is_better else "loss"
    return f"{word} {'inside' if gain.low <= 0.0 <= gain.high or p >= level else 'outside'} the noise"


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([math.nan if value is None else float(value) for value in values], dtype=np.float64)


def _by_subject(
    values: Sequence[float | None], subjects: Sequence[Hashable]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Sum and count of the defined values of each subject that has any, and those values."""
    numbers = _numbers(values)
    if len(subjects) != numbers.size:
        raise ValueError(f"{numbers.size} values for {len(subjects)} subjects' cases")
    defined = ~np.isnan(numbers)
    order = {subject: row for row, subject in enumerate(dict.fromkeys(subjects))}
    rows = np.array([order[subject] for subject in subjects], dtype=np.int64)[defined]
    kept = numbers[defined]
    counts = np.bincount(rows, minlength=len(order)).astype(np.float64)
    sums = np.bincount(rows, weights=kept, minlength=len(order)).astype(np.float64)
    present = counts > 0
    return sums[present], counts[present], kept
