"""The paired test of two arms, and Holm's correction: by hand, closed forms and Student's test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from fewlabel.scoring.paired_test import Components, PairedTest, components, holm, paired_test, verdict

NAN = math.nan


def test_the_paired_test_is_students_where_one_factor_is_alone() -> None:
    rng = np.random.default_rng(1)
    people = rng.normal(0.02, 0.05, (1, 12))
    alone = paired_test(people)
    student = ttest_1samp(people[0], 0)
    assert alone.scope == "patients"
    assert alone.p == pytest.approx(student.pvalue)
    assert (alone.low, alone.high) == pytest.approx(tuple(student.confidence_interval()))
    own = np.full((4, 8), NAN)
    for draw in range(4):
        own[draw, 2 * draw : 2 * draw + 2] = rng.normal(0.1 * draw, 0.05, 2)
    nested = paired_test(own)
    assert nested.scope == "draws"
    assert nested.p == pytest.approx(ttest_1samp(np.nanmean(own, axis=1), 0).pvalue)


def test_mean_squares_are_those_of_a_two_way_layout() -> None:
    rows = np.array([[1.0, 2.0, 4.0], [3.0, 2.0, 7.0]])
    parts = components(rows)
    whole = rows.mean()
    total = ((rows - whole) ** 2).sum()
    assert parts.draws == pytest.approx(3 * ((rows.mean(1) - whole) ** 2).sum())
    assert parts.patients == pytest.approx(2 * ((rows.mean(0) - whole) ** 2).sum() / 2)
    assert parts.draws * 1 + parts.patients * 2 + parts.rest * 2 == pytest.approx(total)
    with pytest.raises(ValueError, match="full table"):
        components(np.array([[1.0, NAN], [2.0, 3.0]]))


def test_equal_differences_leave_no_doubt_and_none_leaves_nothing() -> None:
    assert paired_test(np.full((3, 4), 0.1)).p == 0.0
    assert paired_test(np.zeros((3, 4))).p == 1.0
    assert paired_test(np.array([[0.1]])).scope == "nothing"
    nothing = paired_test(np.full((2, 2), NAN))
    assert (nothing.mean, nothing.p) == (None, None)
    assert verdict(nothing, None) == "cannot be told"


def test_holm_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    # None is more than 1.
    assert holm([0.8, 0.9]) == [1.0, 1.0]
    rng = np.random.default_rng(0)
    # A family of true nulls is wrong anywhere in no more than 5 of 100.
    wrong = [min(value for value in holm(rng.random(8).tolist()) if value is not None) < 0.05 for _ in range(2000)]
    assert np.mean(wrong) < 0.06


def student(mean: float, variance: float, freedom: float, *rest, level: float = 0.05) -> PairedTest:
    """What Student's t says of a mean, its variance and their degrees of freedom."""
    half = float(t.ppf(1 - level / 2, freedom)) * math.sqrt(variance)
    p = 2 * float(t.sf(abs(mean) / math.sqrt(variance), freedom))
    near = [pytest.approx(value) for value in (mean, mean - half, mean + half, p, freedom)]
    return PairedTest(*near, *rest)


def test_draws_and_patients_are_both_random_in_a_full_table() -> None:
    rows = np.array([[1.0, 2.0, 3.0], [3.0, 6.0, 9.0]])
    # Draws are 2 off the mean of 4, patients -2, 0 and 2, and what is left is 1, 0, -1 and -1, 0, 1.
    assert components(rows) == Components(*map(pytest.approx, (24.0, 8.0, 2.0)), (2, 3))
    assert components(rows).variances == pytest.approx((22 / 3, 3.0, 2.0))
    freedom = 30**2 / (24**2 / 1 + 8**2 / 2 + 2**2 / 2)
    assert paired_test(rows) == student(4.0, (24 + 8 - 2) / 6, freedom, "draws and patients", 2, 3)
    of_seeds = paired_test(rows, factor="seeds", confidence=0.8)
    assert of_seeds == student(4.0, 5.0, freedom, "seeds and patients", 2, 3, level=0.2)


@pytest.mark.parametrize(
    ("rows", "square", "freedom"),
    [
        # Mean squares of draws 9 and of the rest 1: 9 + 0 - 1 would be less than draws alone give.
        ([[0.0, -1.0], [2.0, 3.0]], 9.0, 9**2 / (9**2 + 1)),
        ([[0.0, 2.0], [-1.0, 3.0]], 9.0, 9**2 / (9**2 + 1)),
        # Nothing but the rest.
        ([[0.0, 1.0], [1.0, 0.0]], 1.0, 1.0),
    ],
)
def test_a_variance_is_never_below_that_of_one_factor_or_the_rest(rows, square, freedom) -> None:
    found = paired_test(np.array(rows))
    assert found == student(float(np.mean(rows)), square / 4, freedom, "draws and patients", 2, 2)


def test_patients_whom_some_draws_share_add_the_variances_of_both() -> None:
    # Means of draws 2 and 6, of patients 1, 3.5 and 8; rows and columns without any score do not count.
    rows = np.array([[1.0, 3.0, NAN, NAN], [NAN, 4.0, 8.0, NAN], [NAN, NAN, NAN, NAN]])
    draws, people = 8 / 2, np.var([1, 3.5, 8], ddof=1) / 3
    freedom = (draws + people) ** 2 / (draws**2 / 1 + people**2 / 2)
    assert freedom > 2
    # Of two draws no more is believed.
    assert paired_test(rows[:2]) == student(4.0, draws + people, 2.0, "draws and patients", 2, 3)
    assert paired_test(rows) == paired_test(rows[:2])


def test_three_draws_keep_the_freedom_of_the_formula_where_patients_are_shared_by_some() -> None:
    rows = np.array([[1.0, 3.0, NAN], [NAN, 4.0, 8.0], [2.0, NAN, 1.0]])
    means, people = [2.0, 6.0, 1.5], [1.5, 3.5, 4.5]
    parts = [np.var(means, ddof=1) / 3, np.var(people, ddof=1) / 3]
    freedom = sum(parts) ** 2 / sum(part**2 / 2 for part in parts)
    assert freedom > 2
    assert paired_test(rows) == student(np.mean(means), sum(parts), freedom, "draws and patients", 3, 3)


def test_the_mean_is_over_draws_first() -> None:
    assert paired_test(np.array([[0.0, 0.2, 0.1], [0.7, NAN, NAN]])).mean == pytest.approx(0.4)


def test_one_factor_with_two_values_is_enough_for_a_test() -> None:
    assert paired_test(np.array([[0.0, 2.0]])) == student(1.0, 1.0, 1.0, "patients", 1, 2)
    assert paired_test(np.array([[0.0], [2.0]])) == student(1.0, 1.0, 1.0, "draws", 2, 1)
    assert paired_test(np.array([[0.0], [2.0]]), factor="seeds").scope == "seeds"
    # Draws with patients of their own.
    own = np.array([[0.0, NAN], [NAN, 2.0]])
    assert paired_test(own) == student(1.0, 1.0, 1.0, "draws", 2, 2)


def test_what_nothing_is_known_of_is_none() -> None:
    assert paired_test(np.array([[0.1]])) == PairedTest(0.1, None, None, None, None, "nothing", 1, 1)
    assert paired_test(np.full((2, 2), NAN)) == PairedTest(None, None, None, None, None, "nothing", 0, 0)


@pytest.mark.parametrize("gap", [False, True])
def test_equal_differences_have_an_interval_without_width(gap: bool) -> None:
    rows = np.full((3, 4), 0.25)
    if gap:
        rows[0, 0] = NAN
    assert paired_test(rows) == PairedTest(0.25, 0.25, 0.25, 0.0, 2.0, "draws and patients", 3, 4)


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (1, 1)])
def test_mean_squares_take_two_draws_and_patients(shape) -> None:
    with pytest.raises(ValueError, match=f"not {shape[0]} x {shape[1]}"):
        components(np.ones(shape))
