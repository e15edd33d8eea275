"""Curves over numbers of labelled patients, read backwards, and their ranges where these are known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from fewlabel.scoring.label_efficiency import Needed, equivalent_labels, labels_needed

#: (draws, seeds, patients): patients who are far apart.
PEOPLE = np.array([[[0.1, 0.9, 0.4, 0.5, 0.7, 0.2]]])
#: Draws that are far apart, of one patient each.
DRAWS = np.array([0.1, 0.4, 0.5, 0.9])[:, None, None]


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


@pytest.mark.parametrize(
    ("score", "wanted"),
    [
        (0.3, Needed(2.0, "at most")),
        (0.4, Needed(2.0, "exact")),
        (0.5, Needed(pytest.approx(4.0), "exact")),
        (0.6, Needed(pytest.approx(8.0), "exact")),
        (0.65, Needed(pytest.approx(16.0), "exact")),
        (0.7, Needed(pytest.approx(32.0), "exact")),
        (0.71, Needed(32.0, "more than")),
    ],
)
def test_a_score_is_reached_at_a_point_between_two_or_beyond_the_ends(score: float, wanted: Needed) -> None:
    assert labels_needed([2, 8, 32], [0.4, 0.6, 0.7], score) == wanted


@pytest.mark.parametrize(("budgets", "curve"), [([], []), ([2, 2], [0.5, 0.6]), ([1, 2], [0.5]), ([], [0.5])])
def test_a_curve_needs_a_score_at_each_of_ascending_numbers(budgets, curve) -> None:
    with pytest.raises(ValueError, match=f"ascending numbers, not {len(curve)} at"):
        labels_needed(budgets, curve, 0.5)


def test_whole_scores_are_no_other_scores() -> None:
    assert labels_needed([1, 4], [0, 2], 1).labelled == pytest.approx(2.0)


def test_the_mean_of_a_curve_is_over_draws_however_many_seeds_and_patients_each_has() -> None:
    # Draws .2 and .6, seeds of the first 0 and .4: .4 in all, where the mean of all scores is .33.
    arm = np.array([[[0.0, math.nan], [0.4, math.nan]], [[0.6, math.nan], [math.nan, math.nan]]])
    assert equivalent_labels(arm, [1, 4], [np.full((1, 1, 2), 0.3), np.full((1, 1, 2), 0.5)]).labelled == pytest.approx(
        2
    )


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


def test_patients_are_the_same_persons_in_all_curves() -> None:
    """However far they are apart, each resample has the same of them: a curve that is .1 above or below stays so."""
    found = equivalent_labels(PEOPLE, [1, 4], [PEOPLE - 0.1, PEOPLE + 0.1])
    assert found.labelled == pytest.approx(2.0)
    assert (found.low, found.high) == pytest.approx((2.0, 2.0))
    assert found.record() == {"labelled": found.labelled, "bound": "exact", "low": found.low, "high": found.high}
    assert json.loads(json.dumps(found.record())) == found.record()


def test_draws_are_each_curves_own() -> None:
    """The very same scores as a curve's: of its draws and of the arm's, either may come out better."""
    first = equivalent_labels(DRAWS, [1, 4], [DRAWS, DRAWS + 0.5])
    assert first.low == 1.0
    assert (first.high or 0) > 1.3
    second = equivalent_labels(DRAWS, [1, 4], [DRAWS - 0.5, DRAWS])
    assert (second.low or 9) < 3
    assert second.high == math.inf


def test_patients_of_each_draw_alone_are_resampled_within_it() -> None:
    """The arm has one draw; the curve two, each scored on patients nobody else is."""
    arm, curve = np.full((1, 1, 6), math.nan), np.full((2, 1, 6), math.nan)
    arm[0, 0, :2] = 0.5
    curve[0, 0, 2:4], curve[1, 0, 4:] = 0.4, 0.6
    found = equivalent_labels(arm, [2, 8], [curve - 0.25, curve + 0.25])
    assert found.labelled == pytest.approx(4.0)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 4 < found.high < 8


def test_the_range_is_of_1000_resamples_and_seeded() -> None:
    rng = np.random.default_rng(0)
    varied, flat = rng.normal(0.5, 0.01, (5, 1, 1)), np.full((5, 1, 1), 0.5)
    for arm, curve in ((varied, flat), (flat, varied)):
        rest = [1, 4], [curve - 0.2, curve + 0.2]
        found = equivalent_labels(arm, *rest)
        assert found == equivalent_labels(arm, *rest, count=1000, seed=0)
        others = [equivalent_labels(arm, *rest, count=15, seed=1), equivalent_labels(arm, *rest, count=15, seed=2)]
        assert others[0].low != others[1].low
        # What the curves themselves say does not depend on it.
        assert {other.labelled for other in others} == {found.labelled}


def test_curves_of_other_patients_than_the_arms_have_no_range() -> None:
    arm, curve = np.array([[[0.5, 0.7, math.nan, math.nan]]]), np.array([[[math.nan, math.nan, 0.4, 0.6]]])
    found = equivalent_labels(arm, [1, 4], [curve, curve + 0.2])
    assert found == Needed(pytest.approx(2.0), "exact", None, None)


def test_an_infinite_end_is_written_as_none() -> None:
    assert Needed(8.0, "more than", 3.0, math.inf).record() == {
        "labelled": 8.0, "bound": "more than", "low": 3.0, "high": None,
    }  # fmt: skip
