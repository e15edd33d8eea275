"""Statistics of studies: closed forms, and what simulations of known truth say of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewlabel.scoring.label_efficiency import equivalent_labels, labels_needed
from fewlabel.scoring.nested_bootstrap import nested_bootstrap
from fewlabel.scoring.paired_test import components, holm, paired_test, verdict
from fewlabel.scoring.power import draws_needed, power_of

NAN = math.nan


def layouts(count: int, draws: int, people: int, sd: tuple[float, float, float], mean: float = 0.0, seed: int = 0):
    """Tables of differences: a mean, an effect of each draw, one of each patient, and a rest."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rest = rng.normal(0, sd[2], (draws, people))
        yield mean + rng.normal(0, sd[0], (draws, 1)) + rng.normal(0, sd[1], (1, people)) + rest


def test_the_paired_test_is_students_where_one_factor_is_alone() -> None:
    from scipy.stats import ttest_1samp

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


def test_the_paired_test_keeps_its_level_where_draws_and_patients_vary() -> None:
    from scipy.stats import ttest_1samp

    for draws, people, most in ((3, 34, 0.09), (5, 20, 0.065)):
        tables = list(layouts(1000, draws, people, (0.05, 0.05, 0.03)))
        ours = np.mean([(paired_test(table).p or 0) < 0.05 for table in tables])
        pooled = np.mean([ttest_1samp(table.ravel(), 0).pvalue < 0.05 for table in tables])
        assert ours < most
        assert pooled > 0.3
    tests = [paired_test(table) for table in layouts(600, 5, 12, (0.03, 0.08, 0.02), 0.1)]
    assert np.mean([(test.low or 0) <= 0.1 <= (test.high or 0) for test in tests]) > 0.93
    # Draws that share some patients only.
    halves = list(layouts(600, 5, 20, (0.03, 0.05, 0.03), seed=2))
    for table in halves:
        table[np.random.default_rng(0).random(table.shape) < 0.5] = NAN
    assert np.mean([(paired_test(table).p or 0) < 0.05 for table in halves]) < 0.075


def test_holm_as_in_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.9]) == [1.0, None, 1.0]
    assert holm([]) == []
    rng = np.random.default_rng(0)
    # A family of true nulls is wrong anywhere in no more than 5 of 100.
    wrong = [min(value for value in holm(rng.random(8).tolist()) if value is not None) < 0.05 for _ in range(2000)]
    assert np.mean(wrong) < 0.06


def test_the_bootstrap_takes_shared_patients_as_the_same_persons() -> None:
    shared, own = [], []
    for table in layouts(60, 6, 15, (0.0, 0.08, 0.01), 0.7):
        apart = np.full((6, 1, 90), NAN)
        for draw in range(6):
            apart[draw, 0, 15 * draw : 15 * draw + 15] = table[draw]
        shared.append(nested_bootstrap(table[:, None, :], count=80))
        own.append(nested_bootstrap(apart, count=80))
    hits = {
        name: np.mean([(i.low or 0) <= 0.7 <= (i.high or 0) for i in part])
        for name, part in (("shared", shared), ("own", own))
    }
    # Patients who are the same in all draws do not average out; taken for others they would make it too narrow.
    assert hits["shared"] > 0.8
    assert hits["own"] < 0.75


def test_the_bootstrap_of_equal_scores_has_no_width_and_seeds_count() -> None:
    flat = nested_bootstrap(np.full((3, 2, 4), 0.7), count=50)
    assert (flat.low, flat.high, flat.n, flat.subjects) == (0.7, 0.7, 3, 4)
    seeds = np.zeros((1, 4, 3))
    seeds[0, :2] = 1.0
    wide = nested_bootstrap(seeds, count=400)
    assert wide.mean == 0.5
    assert (wide.low or 0) < 0.2 < 0.8 < (wide.high or 0)
    assert nested_bootstrap(np.full((1, 1, 1), 0.3)).low is None
    assert nested_bootstrap(seeds, count=40) == nested_bootstrap(seeds, count=40)


def test_labels_needed_reads_a_curve_backwards() -> None:
    assert labels_needed([1, 2, 8], [0.5, 0.6, 0.8], 0.6).labelled == pytest.approx(2)
    half = labels_needed([2, 8], [0.6, 0.8], 0.7)
    assert (half.labelled, half.bound) == (pytest.approx(4), "exact")
    assert labels_needed([1, 2], [0.5, 0.6], 0.4).bound == "at most"
    assert labels_needed([1, 2], [0.5, 0.6], 0.7).bound == "more than"
    # A dip is levelled out.
    assert labels_needed([1, 2, 4], [0.6, 0.4, 0.8], 0.65).labelled == pytest.approx(2 * 2**0.5)
    with pytest.raises(ValueError, match="ascending"):
        labels_needed([2, 1], [0.5, 0.6], 0.5)


def test_equivalent_labels_has_a_range_around_the_truth() -> None:
    rng = np.random.default_rng(3)
    person = rng.normal(0, 0.05, 20)

    def scores(mean: float, draws: int = 5) -> np.ndarray:
        return mean + rng.normal(0, 0.01, (draws, 1, 1)) + person + rng.normal(0, 0.01, (draws, 1, 20))

    found = equivalent_labels(
        scores(0.7), [1, 2, 4, 8], [scores(0.5), scores(0.6), scores(0.7, 3), scores(0.8)], count=200
    )
    assert found.bound == "exact"
    assert (found.low or 9) < 4 < (found.high or 0)
    # Patients vary by far more than the range would allow, if they were not the same persons in all curves.
    assert (found.low or 0) > 3
    never = equivalent_labels(scores(0.9), [1, 2], [scores(0.5), scores(0.6)], count=20)
    assert (never.bound, never.record()["high"]) == ("more than", None)


def test_power_is_what_a_simulation_finds() -> None:
    truth = (0.02, 0.03, 0.02)
    # Mean squares at their expectation, of a table as large as can be.
    pilot = next(iter(layouts(1, 2000, 20, truth)))
    parts = components(pilot)
    assert parts.variances == pytest.approx([value**2 for value in truth], rel=0.8)
    for draws in (3, 8):
        told = power_of(parts, draws, 0.03)
        deviations = tuple(value**0.5 for value in parts.variances)
        tables = layouts(800, draws, 20, deviations, 0.03)
        assert told == pytest.approx(np.mean([(paired_test(table).p or 0) < 0.05 for table in tables]), abs=0.07)


def test_draws_needed_grow_as_the_gain_shrinks_and_may_never_do() -> None:
    table = next(iter(layouts(1, 5, 30, (0.02, 0.02, 0.02), seed=5)))
    large, small = draws_needed(table, 0.05), draws_needed(table, 0.03)
    assert large is not None
    assert small is not None
    assert (large.draws or 0) < (small.draws or 9999)
    parts = components(table)
    assert power_of(parts, small.draws or 0, 0.03) >= 0.8 > power_of(parts, (small.draws or 0) - 1, 0.03)
    few = draws_needed(next(iter(layouts(1, 5, 4, (0.0, 0.2, 0.01)))), 0.02)
    assert few is not None
    assert few.draws is None
    assert draws_needed(table[:1]) is None
