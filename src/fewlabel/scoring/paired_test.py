"""Two arms on the same draws and test patients: a paired test for which both are samples, and Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from fewlabel.scoring.replicates import Paired, means_over

#: What trainings differ in: draws of labelled patients, or of one draw the seeds.
Factor = Literal["draws", "seeds"]
#: What a difference was judged over.
Scope = Literal["draws and patients", "draws", "seeds and patients", "seeds", "patients", "nothing"]
TEST_RULE = (
    "Paired test with draws and test patients as random factors: the variance of the mean difference is that of a "
    "two-way layout, (MS draws + MS patients - MS rest) / (draws x patients), with Satterthwaite's degrees of freedom "
    "(Clark 1973's min F'), of which two draws or patients leave two at most. By simulation it is wrong in 5 of 100 "
    "comparisons of equal arms with five draws or more, in up to 8 with three and in up to 9 with two. Of one draw the "
    "seeds take the place of draws, and nothing is said of other labelled patients; one training of an arm tells "
    "nothing of the arm. p is corrected by Holm's method over all comparisons with the control."
)


@dataclass(frozen=True)
class PairedTest:
    """A mean paired difference and what may be said of it.

    Attributes:
        mean: Mean difference; None without pairs.
        low: Lower end of its interval; None where nothing is known of its variance.
        high: Upper end.
        p: Two-sided; None like the ends.
        freedom: Degrees of freedom of Student's t.
        scope: What the test generalises to.
        draws: Draws, or seeds of one draw, that both arms have.
        patients: Patients whom both have scores of.
    """

    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    freedom: float | None
    scope: Scope
    draws: int
    patients: int

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


@dataclass(frozen=True)
class Components:
    """Mean squares of a two-way layout of differences.

    Attributes:
        draws: Mean square of draws.
        patients: Mean square of patients.
        rest: Mean square of what is left.
        shape: (draws, patients).
    """

    draws: float
    patients: float
    rest: float
    shape: tuple[int, int]

    @property
    def variances(self) -> tuple[float, float, float]:
        """Variances of draws, of patients and of the rest; none below 0."""
        count, people = self.shape
        return (
            max((self.draws - self.rest) / people, 0.0),
            max((self.patients - self.rest) / count, 0.0),
            self.rest,
        )


def paired_test(differences: Paired, *, factor: Factor = "draws", confidence: float = 0.95) -> PairedTest:
    """Test whether a mean difference is 0.

    Where all draws are scored on the same patients, both are random factors. Where each draw has its own, draws alone
    are: patients vary with them. Where some are shared, the variances over draws and over patients are added.

    Args:
        differences: (draws, patients), NaN where a patient is not scored in a draw.
        factor: What the rows are: draws, or the seeds of one draw.
        confidence: Coverage of the interval, in (0, 1).

    Example:
        >>> paired_test(np.array([[0.1, 0.2], [0.2, 0.3], [0.1, 0.2]])).scope
        'draws and patients'
    """
    known = ~np.isnan(differences)
    rows = differences[known.any(axis=1)][:, known.any(axis=0)]
    known = ~np.isnan(rows)
    count, people = rows.shape
    if not known.any():
        return PairedTest(None, None, None, None, None, "nothing", 0, 0)
    mean = float(means_over(means_over(rows, axis=1), axis=0))
    variance, freedom, scope = _variance(rows, factor)
    mean = round(mean, 12)
    if variance is None or freedom is None:
        return PairedTest(mean, None, None, None, None, scope, count, people)
    from scipy.stats import t

    half = float(t.ppf(0.5 + confidence / 2.0, freedom)) * math.sqrt(variance)
    p = (1.0 if mean == 0 else 0.0) if variance == 0 else 2.0 * float(t.sf(abs(mean) / math.sqrt(variance), freedom))
    return PairedTest(mean, mean - half, mean + half, p, freedom, scope, count, people)


def _variance(rows: Paired, factor: Factor) -> tuple[float | None, float | None, Scope]:
    """Variance of the mean, its degrees of freedom and what it covers."""
    alone: Scope = factor
    both: Scope = "draws and patients" if factor == "draws" else "seeds and patients"
    count, people = rows.shape
    known = ~np.isnan(rows)
    draws = means_over(rows, axis=1)
    if count == 1:
        values = rows[0][known[0]]
        return (*_of_means(values), "patients") if values.size > 1 else (None, None, "nothing")
    if people == 1 or known.sum(axis=0).max() == 1:
        return (*_of_means(draws), alone)
    if known.all():
        return (*_of_layout(components(rows)), both)
    parts = [_of_means(draws), _of_means(means_over(rows, axis=0))]
    total = sum(variance for variance, _ in parts)
    weighted = sum(variance**2 / freedom for variance, freedom in parts)
    return total, bounded_freedom(total**2 / weighted if weighted else float(count - 1), rows.shape), both


def _of_means(values: Paired) -> tuple[float, float]:
    """Variance of the mean of independent values, and its degrees of freedom."""
    return _tiny_to_zero(float(values.var(ddof=1)), values) / values.size, float(values.size - 1)


def components(rows: Paired) -> Components:
    """Mean squares of a full table of differences.

    Args:
        rows: (draws, patients), at least 2 x 2, without gaps.

    Raises:
        ValueError: If a value is missing or there is but one draw or patient.
    """
    count, people = rows.shape
    if count < 2 or people < 2 or np.isnan(rows).any():
        raise ValueError(f"components need a full table of two draws and patients or more, not {count} x {people}")
    whole = rows.mean()
    draws, patients = rows.mean(axis=1) - whole, rows.mean(axis=0) - whole
    rest = rows - whole - draws[:, None] - patients[None, :]
    return Components(
        draws=_tiny_to_zero(float(people * (draws**2).sum() / (count - 1)), rows),
        patients=_tiny_to_zero(float(count * (patients**2).sum() / (people - 1)), rows),
        rest=_tiny_to_zero(float((rest**2).sum() / ((count - 1) * (people - 1))), rows),
        shape=(count, people),
    )


def _of_layout(parts: Components) -> tuple[float, float]:
    """Variance of the mean of a two-way layout, and Satterthwaite's degrees of freedom.

    The estimate is never below what the larger of the two factors gives alone, or the rest: mean squares of a few draws
    may make it negative.
    """
    count, people = parts.shape
    square = max(parts.draws + parts.patients - parts.rest, parts.draws, parts.patients, parts.rest)
    weighted = (
        parts.draws**2 / (count - 1) + parts.patients**2 / (people - 1) + parts.rest**2 / ((count - 1) * (people - 1))
    )
    return square / (count * people), bounded_freedom(
        square**2 / weighted if weighted else float(count - 1), parts.shape
    )


def bounded_freedom(freedom: float, shape: tuple[int, ...]) -> float:
    """Satterthwaite's degrees of freedom, but two at most where there are two draws or two patients.

    The mean square of two is often near 0 by chance, which leaves the freedom of the other factor and little variance:
    equal arms would be called different in 13 of 100 comparisons. A single degree would tell next to nothing.

    Args:
        freedom: By the formula.
        shape: (draws, patients).
    """
    return min(freedom, 2.0) if min(shape) == 2 else freedom


def _tiny_to_zero(value: float, rows: Paired) -> float:
    """Rounding noise of equal values as the 0 it stands for."""
    scale = float(np.nanmax(np.abs(rows))) ** 2
    return value if value > 1e-24 + 1e-24 * scale else 0.0


def holm(p: Sequence[float | None]) -> list[float | None]:
    """p-values corrected by Holm's step-down method (Scand J Statist 1979); None stays None and counts for nothing.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted((value, at) for at, value in enumerate(p) if value is not None)
    corrected: list[float | None] = [None] * len(p)
    largest = 0.0
    for rank, (value, at) in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * value))
        corrected[at] = largest
    return corrected


def verdict(test: PairedTest, corrected: float | None, *, level: float = 0.05) -> str:
    """``better``, ``worse`` or ``cannot be told``: the first two only where the corrected p is below the level.

    One training of each arm tells nothing of the arms, however sure the difference of these two networks is.
    """
    if test.mean is None or test.scope == "patients" or corrected is None or corrected >= level or test.mean == 0:
        return "cannot be told"
    return "better" if test.mean > 0 else "worse"
