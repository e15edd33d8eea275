"""Rankings of arms: shared ranks, their ranges over resamples, and how far draws agree."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fewlabel.scoring.rank_stability import agreement, rank_stability, ranks

NAN = math.nan


def test_ranks_and_their_stability() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(0.6, 0.1, (5, 1, 12))
    arms = {"a": base + 0.1, "b": base, "c": base + rng.normal(0, 0.002, base.shape)}
    found = rank_stability(arms, count=200)
    assert (found["a"].rank, found["a"].low, found["a"].high, found["a"].first) == (1.0, 1.0, 1.0, 1.0)
    assert (found["b"].low, found["b"].high) == (2.0, 3.0)
    assert ranks([0.9, 0.9, 0.1]).tolist() == [1.5, 1.5, 3.0]
    with pytest.raises(ValueError, match="same draws and patients"):
        rank_stability({"a": base, "b": base[:3]})


def test_ranks_are_those_of_means_over_draws_however_many_patients_each_has() -> None:
    # Means of draws 0 and .7: .35, though the mean over patients is .47.
    arms = {"a": np.array([[[0.0, NAN]], [[0.6, 0.8]]]), "b": np.full((2, 1, 2), 0.4)}
    found = rank_stability(arms, count=50)
    assert (found["a"].rank, found["b"].rank) == (2.0, 1.0)


def test_arms_that_tie_share_the_first_place() -> None:
    base = np.full((3, 1, 4), 0.5)
    found = rank_stability({"a": base, "b": base, "c": base - 0.1}, count=20)
    assert [found[name].first for name in "abc"] == [0.5, 0.5, 0.0]


def test_ranges_are_of_1000_resamples_and_seeded() -> None:
    rng = np.random.default_rng(8)
    arms = {name: rng.normal(0.6, 0.1, (4, 1, 9)) for name in "abc"}
    found = rank_stability(arms)
    assert found == rank_stability(arms, count=1000, seed=0)
    assert found != rank_stability(arms, count=1000, seed=1)
    assert found != rank_stability(arms, count=999)
    # The first places share out all resamples.
    assert sum(rank.first for rank in found.values()) == pytest.approx(1.0)


def test_a_rank_is_written_with_its_range() -> None:
    scores = np.full((2, 1, 3), 0.5)
    record = rank_stability({"a": scores, "b": scores + 0.1})["a"].record()
    assert record == {"rank": 2.0, "low": 2.0, "high": 2.0, "first": 0.0}
    assert json.loads(json.dumps(record)) == record


def test_agreement_is_kendalls() -> None:
    table = np.array([[0.1, 0.2, 0.3], [0.1, 0.3, 0.2], [0.1, 0.2, 0.3]])
    # Rank sums 9, 5 and 4 around 6.
    assert agreement(table) == pytest.approx(12 * (9 + 1 + 4) / (9 * 24))
    assert agreement(np.array([[0.1, 0.2], [0.2, 0.1]])) == 0.0
    assert agreement(np.array([[0.1, 0.2]])) is None
    assert agreement(np.array([[0.1], [0.2]])) is None
    assert agreement(np.array([[0.1, 0.2, NAN], [0.1, 0.2, 0.3], [0.3, 0.4, 0.6]])) == 1.0


def test_agreement_is_corrected_for_ties() -> None:
    # Draws that rank alike agree wholly, ties or not.
    alike = [[0.1, 0.1, 0.3, 0.3, 0.3], [0.2, 0.2, 0.8, 0.8, 0.8], [0.0, 0.0, 0.1, 0.1, 0.1]]
    assert agreement(np.array(alike)) == pytest.approx(1.0)
    # Ranks 3, 2, 1 and 1.5, 1.5, 3: sums 4.5, 3.5 and 4 around 4; of the second draw two are tied, 2³ - 2 = 6.
    assert agreement(np.array([[0.1, 0.2, 0.3], [0.5, 0.5, 0.4]])) == pytest.approx(12 * 0.5 / (4 * 24 - 2 * 6))
    # Where every draw ties all arms there is nothing to agree on.
    assert agreement(np.full((3, 4), 0.5)) is None
