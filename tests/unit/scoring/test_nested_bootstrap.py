"""Bootstrap of draws, seeds and patients: what each resample takes, its means by hand, and what an interval is of."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewlabel.scoring.nested_bootstrap import Resamples, nested_bootstrap, resamples
from fewlabel.scoring.statistics import Interval

NAN = math.nan


def known(*rows: str) -> np.ndarray:
    """(draws, seeds, patients) from a row per draw, seeds separated by spaces, x where there is a score."""
    return np.array([[[place == "x" for place in seed] for seed in row.split()] for row in rows])


def test_means_of_a_resample_by_hand() -> None:
    scores = np.array([[[0.2, 0.4, NAN], [0.6, 0.8, NAN]], [[1.0, NAN, 0.5], [NAN, NAN, NAN]]])
    taken = Resamples(
        trainings=np.array([[[0.5, 0.5], [1.0, 0.0]], [[2.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [2.0, 0.0]]]),
        patients=np.array([[1.0, 2.0, 0.0], [0.0, 3.0, 0.0], [0.0, 3.0, 0.0]]),
    )
    first = (0.2 + 2 * 0.4) / 3, (0.6 + 2 * 0.8) / 3
    # Of the second draw no patient was taken in the third resample, which therefore has no mean.
    wanted = [(0.5 * first[0] + 0.5 * first[1] + 1.0) / 2, 0.4, NAN]
    np.testing.assert_allclose(taken.means(scores), wanted)
    own = Resamples(taken.trainings[:1], np.array([[[1.0, 2.0, 0.0], [0.0, 0.0, 4.0]]]))
    np.testing.assert_allclose(own.means(scores), [(0.5 * first[0] + 0.5 * first[1] + 0.5) / 2])


def test_a_training_none_of_whose_patients_was_taken_is_left_out_of_the_mean() -> None:
    scores = np.array([[[0.2, NAN]], [[NAN, 0.9]]])
    taken = Resamples(np.array([[[1.0], [1.0]]]), np.array([[2.0, 0.0]]))
    np.testing.assert_allclose(taken.means(scores), [0.2])


def test_a_resample_takes_as_many_draws_and_patients_as_there_are_and_shares_a_draw_among_its_seeds() -> None:
    there = known("xx. xx. ...", "x.. ... ...", "... ... ...")
    taken = resamples(there, 50, 0)
    assert taken.trainings.shape == (50, 3, 3)
    assert taken.patients.shape == (50, 3)
    draws = taken.trainings.sum(axis=2)
    np.testing.assert_allclose(draws.sum(axis=1), 2.0)
    np.testing.assert_allclose(draws, draws.round())
    assert not taken.trainings[:, ~there.any(axis=2)].any()
    np.testing.assert_array_equal(taken.patients.sum(axis=1), 2)
    assert not taken.patients[:, 2].any()
    # Either seed of the first draw may stand for both, and any patient for all.
    assert {0.0, 1.0} < set((taken.trainings[:, 0, 0] / np.maximum(draws[:, 0], 1)).tolist())
    assert set(taken.patients[:, 0].tolist()) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize(
    ("there", "shared"),
    [
        (known("xxx"), True),
        (known("x. xx"), True),
        (known("xx.", "..x"), False),
        (known("x.", ".x"), False),
        (known("xx.", ".xx"), True),
        (known("xx.", "..x", "..x"), True),
        (known("xx..", "..x.", "...."), False),
    ],
)
def test_patients_whom_draws_share_are_taken_once_for_all(there: np.ndarray, shared: bool) -> None:
    taken = resamples(there, 7, 0)
    scored = there.any(axis=1)
    if shared:
        assert taken.patients.shape == (7, there.shape[2])
        np.testing.assert_array_equal(taken.patients.sum(axis=1), scored.any(axis=0).sum())
    else:
        assert taken.patients.shape == (7, there.shape[0], there.shape[2])
        np.testing.assert_array_equal(taken.patients.sum(axis=2), np.tile(scored.sum(axis=1), (7, 1)))
        assert not taken.patients[:, ~scored].any()


def test_equal_seeds_and_purposes_take_the_same() -> None:
    there = known("xxxxx xxxxx", "xxxxx xxxxx")

    def same(first: Resamples, second: Resamples) -> bool:
        return np.array_equal(first.trainings, second.trainings) and np.array_equal(first.patients, second.patients)

    assert same(resamples(there, 9, 3, "ranks"), resamples(there, 9, 3, "ranks"))
    for other in (resamples(there, 9, 4, "ranks"), resamples(there, 9, 3, "curve"), resamples(there, 9, 3)):
        assert not same(resamples(there, 9, 3, "ranks"), other)


def test_an_interval_is_of_the_percentiles_of_means() -> None:
    scores = np.random.default_rng(0).normal(0.7, 0.1, (3, 2, 8))
    there = ~np.isnan(scores)
    found = nested_bootstrap(scores, confidence=0.8, count=300, seed=5)
    draws = scores.mean(axis=(1, 2))
    assert (found.mean, found.std) == (pytest.approx(draws.mean()), pytest.approx(draws.std(ddof=1)))
    ends = np.percentile(resamples(there, 300, 5).means(scores), [10, 90])
    assert (found.low, found.high) == pytest.approx(tuple(ends), abs=1e-11)
    assert (found.n, found.subjects) == (3, 8)
    assert nested_bootstrap(scores) == nested_bootstrap(scores, confidence=0.95, count=2000, seed=0)


def test_what_one_or_no_training_of_few_patients_tells() -> None:
    assert nested_bootstrap(np.full((2, 1, 3), NAN)) == Interval(None, None, None, None, n=0, subjects=0)
    assert nested_bootstrap(np.full((1, 1, 1), 0.3)) == Interval(0.3, None, None, None, n=1, subjects=1)
    # Two patients of one draw, or two draws of one patient, have a range.
    people = nested_bootstrap(np.array([[[0.2, 0.6]]]))
    assert people == Interval(pytest.approx(0.4), None, 0.2, 0.6, n=1, subjects=2)
    draws = nested_bootstrap(np.array([[[0.2]], [[0.6]]]))
    assert draws == Interval(pytest.approx(0.4), pytest.approx(math.sqrt(0.08)), 0.2, 0.6, n=2, subjects=1)
