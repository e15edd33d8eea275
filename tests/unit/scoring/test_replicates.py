"""Scores of repeated trainings: how far they lie apart, by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fewlabel.scoring.replicates import Spread, over_seeds, scores_of, spread

NAN = math.nan


def test_spread_over_draws_and_seeds_by_hand() -> None:
    scores = np.array([[[0.5, 0.7], [0.7, 0.9]], [[0.2, 0.4], [NAN, NAN]]])
    found = spread(scores)
    trainings = [0.6, 0.8, 0.3]
    assert found.mean == pytest.approx(np.mean(trainings))
    assert found.std == pytest.approx(np.std(trainings, ddof=1))
    assert found.between_draws == pytest.approx(np.std([0.7, 0.3], ddof=1))
    assert found.within_draws == pytest.approx(np.std([0.6, 0.8], ddof=1))
    assert (found.draws, found.trainings) == (2, 3)


def test_the_deviation_over_seeds_is_pooled_over_the_draws_that_have_two_or_more() -> None:
    """Seeds of three draws and of one that has none: squares .02, .18 and 0 of one, two and no degree of freedom."""
    scores = np.array([[0.5, 0.7, NAN], [0.2, 0.5, 0.8], [0.9, NAN, NAN], [NAN, NAN, NAN]])[:, :, None]
    found = spread(scores)
    assert found.within_draws == pytest.approx(math.sqrt((0.02 + 0.18) / 3))
    assert (found.draws, found.trainings) == (3, 6)


def test_what_too_few_trainings_do_not_tell_is_none() -> None:
    assert spread(np.full((2, 3, 4), NAN)) == Spread(None, None, None, None, draws=0, trainings=0)
    assert spread(np.full((1, 1, 2), 0.7)) == Spread(0.7, None, None, None, draws=1, trainings=1)
    # Two draws of a seed each have a deviation between them, and none within.
    two = spread(np.array([[[0.5]], [[0.7]]]))
    assert two.std == two.between_draws == pytest.approx(math.sqrt(0.02))
    assert two.within_draws is None


def test_a_spread_is_written_with_all_that_was_found() -> None:
    record = spread(np.array([[[0.5]], [[0.5]]])).record()
    assert record == {
        "mean": 0.5, "std": 0.0, "between_draws": 0.0, "within_draws": None, "draws": 2, "trainings": 2,
    }  # fmt: skip
    assert json.loads(json.dumps(record)) == record


def test_scores_become_an_array_with_gaps() -> None:
    array, draws, seeds, people = scores_of({(1, 0, "b"): 0.5, (0, 7, "a"): 0.4})
    assert (draws, seeds, people) == ([0, 1], [0, 7], ["a", "b"])
    assert array[1, 0, 1] == 0.5
    assert array[0, 1, 0] == 0.4
    assert np.isnan(array).sum() == 6


def test_means_over_seeds_skip_what_is_missing() -> None:
    assert over_seeds(np.array([[[0.2, NAN], [0.4, NAN]]])) == pytest.approx(np.array([[0.3, NAN]]), nan_ok=True)
