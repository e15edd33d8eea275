"""Statistics of studies: closed forms, and what simulations of known truth say of them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewlabel.scoring.nested_bootstrap import nested_bootstrap
from fewlabel.scoring.paired_test import components, paired_test
from fewlabel.scoring.power import draws_needed, power_of

NAN = math.nan


def layouts(count: int, draws: int, people: int, sd: tuple[float, float, float], mean: float = 0.0, seed: int = 0):
    """Tables of differences: a mean, an effect of each draw, one of each patient, and a rest."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rest = rng.normal(0, sd[2], (draws, people))
        yield mean + rng.normal(0, sd[0], (draws, 1)) + rng.normal(0, sd[1], (1, people)) + rest


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


def test_two_draws_or_patients_keep_the_level_too() -> None:
    # Of two, a mean square that is small by chance would leave many degrees of freedom and little variance.
    for table in (lambda table: table, np.transpose):
        for sd in ((0.05, 0.05, 0.03), (0.02, 0.05, 0.02), (0.05, 0.0, 0.03)):
            tests = [paired_test(table(rows)) for rows in layouts(1000, 2, 50, sd)]
            assert np.mean([(test.p or 0) < 0.05 for test in tests]) < 0.085
            assert max(test.freedom or 0 for test in tests) <= 2
    gaps = list(layouts(600, 2, 40, (0.05, 0.05, 0.03), seed=3))
    for rows in gaps:
        rows[0, :10] = rows[1, -10:] = NAN
    assert np.mean([(paired_test(rows).p or 0) < 0.05 for rows in gaps]) < 0.085


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


def test_power_is_what_a_simulation_finds() -> None:
    truth = (0.02, 0.03, 0.02)
    # Mean squares at their expectation, of a table as large as can be.
    pilot = next(iter(layouts(1, 2000, 20, truth)))
    parts = components(pilot)
    assert parts.variances == pytest.approx([value**2 for value in truth], rel=0.8)
    for draws in (2, 3, 8):
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
    # Differences without any variance, as of networks that find nothing, tell nothing of other draws.
    assert draws_needed(np.zeros((3, 6))) is None
