"""Scans that stand for others: closed forms, a slow search, and invariants."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from fewlabel.scoring.scans_worth_annotating import mean_gap, pick_at_random, pick_to_cover, random_gaps, scan_distances


def line(*places: float) -> np.ndarray:
    return scan_distances(np.array(places)[:, None])


def test_distances_are_in_units_of_a_typical_pair() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(9, 5)) * [1, 10, 100, 0, 1] + 3
    distances = scan_distances(rows)
    pairs = [distances[a, b] for a, b in combinations(range(9), 2)]
    assert np.mean(pairs) == pytest.approx(1)
    # Units of features do not count, nor do features that are constant.
    assert np.allclose(distances, scan_distances(rows * [7, 0.1, 1, 5, 2]))
    assert not scan_distances(np.ones((4, 3))).any()
    assert scan_distances(np.ones((1, 3))).shape == (1, 1)


def test_two_scans_are_a_typical_pair() -> None:
    assert scan_distances(np.array([[3.0, 1.0], [5.0, 1.0]])).tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("unit", [1e-8, 1e-3, 1e3, 1e9])
def test_the_unit_of_all_features_does_not_count(unit: float) -> None:
    rows = np.random.default_rng(3).normal(size=(6, 4))
    np.testing.assert_allclose(scan_distances(rows * unit), scan_distances(rows))


def test_noise_of_rounding_is_no_feature() -> None:
    rows = np.random.default_rng(3).normal(size=(6, 1))
    noise = 1000 + np.random.default_rng(4).normal(0, 1e-4, (6, 1))
    np.testing.assert_allclose(scan_distances(np.hstack([rows * 100, noise])), scan_distances(rows))


def test_the_mean_gap_is_to_the_nearest_that_is_covered() -> None:
    distances = np.array([[0.0, 1.0, 4.0], [1.0, 0.0, 3.0], [4.0, 3.0, 0.0]])
    assert mean_gap(distances, [0]) == pytest.approx(5 / 3)
    assert mean_gap(distances, [0, 2]) == pytest.approx(1 / 3)
    assert mean_gap(distances, [0, 1, 2]) == 0
    assert mean_gap(distances, []) == float("inf")


def test_subjects_give_their_scans_in_turn_to_the_last() -> None:
    """All the other scans of a are far apart, those of b together: by distance alone b would give its second last."""
    owners = ["a", "a", "a", "a", "b", "b"]
    distances = line(0, 100, 200, 300, 50, 50.1)
    picks = [owners[pick.index] for pick in pick_to_cover(distances, [], range(6), owners, 6)]
    assert sorted(picks[:2]) == sorted(picks[2:4]) == ["a", "b"]


def test_the_first_of_all_is_the_medoid_and_the_second_covers_what_is_left() -> None:
    distances = line(0, 1, 2, 3, 4, 20, 21, 22)
    first, second = pick_to_cover(distances, [], range(8), list("abcdefgh"), 2)
    assert first.index == int(distances.sum(axis=0).argmin())
    assert first.gap is None
    assert first.served == 8
    assert second.index == 6
    assert second.gap == pytest.approx(distances[6, first.index])
    assert second.served == 3


def test_a_scan_that_lies_no_nearer_than_before_is_not_served() -> None:
    """The middle one is as far from the annotated scan as from the one that is picked."""
    picked = pick_to_cover(line(0, 1, 2), [0], [2], list("abc"), 1)[0]
    assert (picked.index, picked.served) == (2, 1)


def test_each_pick_is_the_best_of_a_search_over_all_candidates() -> None:
    distances = scan_distances(np.random.default_rng(1).normal(size=(12, 4)))
    known, pool = [0, 5], [1, 2, 3, 7, 9, 11]
    chosen = list(known)
    for pick in pick_to_cover(distances, known, pool, [str(n) for n in range(12)], 4):
        gaps = {place: mean_gap(distances, [*chosen, place]) for place in pool if place not in chosen}
        assert gaps[pick.index] == pytest.approx(min(gaps.values()))
        chosen.append(pick.index)
    assert set(chosen[2:]) <= set(pool)


def test_a_subject_gives_its_second_scan_last() -> None:
    owners = ["a", "a", "b", "b", "c"]
    distances = line(0, 0.1, 5, 5.1, 20)
    picks = pick_to_cover(distances, [], range(5), owners, 9)
    assert len(picks) == 5
    assert {owners[pick.index] for pick in picks[:3]} == {"a", "b", "c"}
    drawn = pick_at_random(range(5), owners, 4, np.random.default_rng(3))
    assert {owners[place] for place in drawn[:3]} == {"a", "b", "c"}
    assert len(set(drawn)) == 4


def test_draws_at_random_are_never_nearer_than_the_best_pair() -> None:
    distances = scan_distances(np.random.default_rng(2).normal(size=(8, 3)))
    owners = [str(n) for n in range(8)]
    best = min(mean_gap(distances, pair) for pair in combinations(range(8), 2))
    gaps = random_gaps(distances, [], range(8), owners, 2, np.random.default_rng(0))
    assert gaps.min() >= best - 1e-12
    assert mean_gap(distances, []) == np.inf
