"""Intervals and comparisons against closed forms, enumeration and SciPy."""

from __future__ import annotations

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from fewlabel.scoring.statistics import (
    Interval,
    bootstrap_interval,
    is_drawn,
    paired_comparison,
    signed_rank_p,
    t_interval,
    useless_sentence,
)


def test_bootstrap_of_three_subjects_against_full_enumeration():
    values, subjects = [0.2, 0.4, 0.9, 0.5], ["a", "a", "b", "c"]
    groups = {name: [v for v, s in zip(values, subjects, strict=True) if s == name] for name in "abc"}
    means = [
        np.mean([value for name in names for value in groups[name]]) for names in itertools.product("abc", repeat=3)
    ]
    found = bootstrap_interval(values, subjects, resamples=40_000, confidence=0.8)
    assert found.mean == pytest.approx(0.5)
    assert found.std == pytest.approx(np.std(values, ddof=1))
    assert (found.n, found.subjects) == (4, 3)
    # Each of the 27 resamples is equally likely: the percentiles are those of the list.
    assert found.low == pytest.approx(np.percentile(np.repeat(means, 1000), 10), abs=1e-9)
    assert found.high == pytest.approx(np.percentile(np.repeat(means, 1000), 90), abs=1e-9)


def test_bootstrap_resamples_subjects_not_cases():
    """Copies of each subject's case carry no information: the interval must not shrink."""
    values = np.random.default_rng(0).normal(0.7, 0.1, 12).tolist()
    once = bootstrap_interval(values, list(range(12)), seed=3)
    often = bootstrap_interval(values * 5, list(range(12)) * 5, seed=3)
    assert (often.low, often.high) == pytest.approx((once.low, once.high))
    naive = bootstrap_interval(values * 5, list(range(60)), seed=3)
    assert naive.high - naive.low < 0.6 * (once.high - once.low)


def test_bootstrap_width_matches_theory():
    values = np.random.default_rng(1).normal(0.0, 1.0, 200)
    found = bootstrap_interval(values.tolist(), list(range(200)))
    half = 1.96 * values.std() / math.sqrt(200)
    assert found.high - found.mean == pytest.approx(half, rel=0.1)
    assert found.mean - found.low == pytest.approx(half, rel=0.1)


def test_bootstrap_is_seeded_and_keeps_the_global_generator():
    np.random.seed(0)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    values, subjects = [0.1, 0.5, 0.6, 0.9], [1, 2, 3, 4]
    one = bootstrap_interval(values, subjects, seed=1)
    assert one == bootstrap_interval(values, subjects, seed=1)
    assert one != bootstrap_interval(values, subjects, seed=2)
    assert (np.random.get_state()[1] == state).all()  # noqa: NPY002


def test_undefined_values_are_left_out():
    found = bootstrap_interval([0.5, None, math.nan, 0.7], ["a", "a", "b", "c"])
    assert (found.mean, found.n, found.subjects) == (pytest.approx(0.6), 2, 2)
    nothing = bootstrap_interval([None, math.nan], ["a", "b"])
    assert (nothing.mean, nothing.std, nothing.low, nothing.n) == (None, None, None, 0)
    json.dumps(nothing.record(), allow_nan=False)


def test_one_subject_gives_no_interval():
    found = bootstrap_interval([0.5, 0.7], ["a", "a"])
    assert (found.mean, found.low, found.high, found.subjects) == (pytest.approx(0.6), None, None, 1)


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 values for 1"):
        bootstrap_interval([0.5, 0.7], ["a"])
    with pytest.raises(ValueError, match="zip"):
        paired_comparison([0.5, 0.7], [0.5], ["a", "b"])


def test_t_interval_equals_scipy():
    values = [0.02, 0.05, -0.01, 0.03, 0.06]
    found = t_interval(values)
    wanted = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx(wanted)
    narrower = t_interval(values, confidence=0.5)
    assert narrower.high - narrower.low < found.high - found.low
    # Two draws: t = 12.706.
    assert t_interval([0.0, 2.0]).record() == pytest.approx(
        {"mean": 1.0, "std": 2**0.5, "low": 1 - 12.7062, "high": 1 + 12.7062, "n": 2, "subjects": 2}, abs=1e-3
    )


def test_t_interval_of_one_or_no_draw():
    assert t_interval([0.3]) == Interval(0.3, None, None, None, n=1, subjects=1)
    assert t_interval([]) == Interval(None, None, None, None, n=0, subjects=0)


def test_signed_rank_equals_enumeration():
    """All 2^n sign patterns of the ranks, as Wilcoxon defined it."""
    differences = np.array([0.3, -0.1, 0.5, 0.2, 0.45, -0.05, 0.6])
    ranks = stats.rankdata(np.abs(differences))
    observed = abs(ranks[differences > 0].sum() - ranks.sum() / 2)
    patterns = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=7)]
    wanted = np.mean([abs(total - ranks.sum() / 2) >= observed - 1e-9 for total in patterns])
    assert signed_rank_p(differences) == pytest.approx(wanted)


def test_signed_rank_ignores_rounding_noise():
    assert signed_rank_p(np.array([1e-16, -1e-16, 0.0])) == 1.0


def test_comparison_is_paired():
    """A small constant gain over very different patients is found; unpaired intervals would overlap."""
    control = np.linspace(0.1, 0.9, 10)
    noise = np.random.default_rng(0).normal(0, 0.002, 10)
    found = paired_comparison((control + 0.02 + noise).tolist(), control.tolist(), list(range(10)))
    assert found.gain.mean == pytest.approx(0.02 + noise.mean())
    assert found.gain.low > 0.01
    assert found.p == pytest.approx(2 / 2**10)
    assert found.verdict == "gain outside the noise"
    assert set(found.record()) == {"mean", "std", "low", "high", "n", "subjects", "p", "verdict"}


def test_the_unit_of_the_test_is_the_subject():
    model = [0.6, 0.6, 0.7, 0.8, 0.5, 0.9, 0.4, 0.3]
    control = [0.5, 0.4, 0.6, 0.6, 0.4, 0.8, 0.3, 0.2]
    subjects = ["a", "a", "b", "b", "c", "c", "d", "d"]
    found = paired_comparison(model, control, subjects)
    assert (found.gain.n, found.gain.subjects) == (8, 4)
    assert found.p == pytest.approx(2 / 2**4)
    assert found.verdict == "4 patients are too few to tell a gain from a loss (at least 6)"


@pytest.mark.parametrize(
    ("shift", "larger", "verdict"),
    [
        (0.05, True, "gain outside the noise"),
        (-0.05, True, "loss outside the noise"),
        (0.05, False, "loss outside the noise"),
        (-0.05, False, "gain outside the noise"),
        (0.0, True, "no difference"),
    ],
)
def test_verdict_follows_sign_and_direction(shift, larger, verdict):
    control = np.linspace(0.2, 0.8, 8)
    model = control + shift
    found = paired_comparison(model.tolist(), control.tolist(), list(range(8)), larger_is_better=larger)
    assert found.verdict == verdict


def test_noise_is_called_noise():
    control = np.full(12, 0.5)
    model = control + np.array([0.1, -0.1, 0.2, -0.15, 0.05, -0.02, 0.3, -0.2, 0.1, -0.1, 0.02, 0.01])
    found = paired_comparison(model.tolist(), control.tolist(), list(range(12)))
    assert found.verdict == "gain inside the noise"
    assert found.gain.low < 0 < found.gain.high
    assert found.p > 0.05


def test_verdicts_without_enough_subjects():
    assert "one patient" in paired_comparison([0.9, 0.8], [0.1, 0.2], ["a", "a"]).verdict
    nothing = paired_comparison([None], [0.1], ["a"])
    assert (nothing.verdict, nothing.p) == ("no case to compare", None)
    # A level of 0.1 can be reached by five subjects.
    five = paired_comparison([0.6] * 5, [0.5] * 5, list(range(5)), confidence=0.9)
    assert five.verdict == "gain outside the noise"


def test_two_subjects_give_neither_an_interval_nor_a_verdict():
    found = paired_comparison([0.9, 0.8], [0.1, 0.2], ["a", "b"])
    assert (found.gain.low, found.gain.high) == (None, None)
    assert not is_drawn(found.verdict)
    assert all(map(is_drawn, ("no difference", "gain inside the noise", "loss outside the noise")))


def test_a_network_that_finds_nothing_is_called_useless():
    assert "of no use" in useless_sentence(0.03)
    assert useless_sentence(0.1) == useless_sentence(None) == ""
