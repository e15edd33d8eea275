"""How many draws show a gain: numbers of the one-sample t test, and a search through all."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import nct, t

from fewlabel.scoring.paired_test import Components, components
from fewlabel.scoring.power import Power, draws_needed, power_of

#: Two draws, three patients who are all alike: draws deviate by .02 and nothing else does.
ALIKE = np.repeat([[0.5], [0.5 + 0.02 * math.sqrt(2)]], 3, axis=1)


def test_where_draws_alone_vary_power_is_that_of_a_one_sample_t_test() -> None:
    """Power of Student's two-sided test of 5 %: .8031 of 10 for one deviation, .8078 of 34 for half of one."""
    parts = components(ALIKE)
    assert power_of(parts, 10, 0.02) == pytest.approx(0.8031, abs=5e-5)
    assert power_of(parts, 34, 0.01) == pytest.approx(0.8078, abs=5e-5)
    assert draws_needed(ALIKE, 0.02, power=0.8) == Power(0.02, 10, power_of(parts, 2, 0.02), 3)
    assert draws_needed(ALIKE, 0.01, power=0.8) == Power(0.01, 34, power_of(parts, 2, 0.01), 3)
    assert draws_needed(ALIKE, 0.02, power=0.9) == Power(0.02, 13, power_of(parts, 2, 0.02), 3)
    strict = draws_needed(ALIKE, 0.02, level=0.01)
    assert strict == Power(0.02, 16, power_of(parts, 2, 0.02, level=0.01), 3)


@pytest.mark.parametrize(
    ("draws", "variance", "freedom"),
    [
        # As measured: 24 + 8 - 2 over 2 x 3.
        (2, 30 / 6, 30**2 / (24**2 / 1 + 8**2 / 2 + 2**2 / 2)),
        # Variances of draws 22/3, of patients 3 and of the rest 2, of four draws: 24 + (4 x 3 + 2) - 2 over 4 x 3.
        (4, 36 / 12, 36**2 / (24**2 / 3 + 14**2 / 2 + 2**2 / 6)),
    ],
)
def test_power_follows_from_expected_mean_squares(draws: int, variance: float, freedom: float) -> None:
    parts = Components(24.0, 8.0, 2.0, (2, 3))
    for level in (0.05, 0.3):
        wanted = nct.sf(t.ppf(1 - level / 2, freedom), freedom, 1.5 / math.sqrt(variance))
        assert power_of(parts, draws, 1.5, level=level) == pytest.approx(wanted)
        # A loss is seen as well as a gain.
        assert power_of(parts, draws, -1.5, level=level) == pytest.approx(wanted)
    assert power_of(parts, draws, 1.5) == power_of(parts, draws, 1.5, level=0.05)


def test_without_further_words_a_gain_of_two_points_is_to_be_seen_in_four_of_five_studies() -> None:
    assert draws_needed(ALIKE) == draws_needed(ALIKE, 0.02, power=0.8, level=0.05)


def test_the_power_at_hand_is_that_of_the_draws_at_hand() -> None:
    rows = np.random.default_rng(0).normal(0, 0.02, (3, 7))
    found = draws_needed(rows, 0.02)
    assert found is not None
    assert found.now == power_of(components(rows), 3, 0.02)
    assert found.patients == 7


@pytest.mark.parametrize("gain", [0.012, 0.015, 0.02, 0.03, 0.05])
def test_no_smaller_number_of_draws_would_do(gain: float) -> None:
    rows = np.random.default_rng(5).normal(0, 0.02, (4, 20)) + np.array([[0.0], [0.02], [0.03], [0.05]])
    found = draws_needed(rows, gain)
    assert found is not None
    counts = range(2, 200)
    assert found.draws == next(count for count in counts if power_of(components(rows), count, gain) >= 0.8)


def test_differences_that_never_vary_tell_nothing_of_draws() -> None:
    # As of two arms that find nothing at all; nobody would believe that two draws show any gain.
    assert draws_needed(np.full((4, 2), 0.1)) is None
    assert draws_needed(np.zeros((3, 5)), 0.0) is None


def test_no_number_of_draws_makes_up_for_few_patients_who_differ() -> None:
    rows = np.array([[-0.3, 0.1, 0.4, 0.0]]) + np.array([[0.0], [0.001], [-0.001]])
    found = draws_needed(rows, 0.02)
    assert found is not None
    record = found.record()
    assert 0 < record.pop("now") < 0.05
    assert record == {"gain": 0.02, "draws": None, "patients": 4}
    assert json.loads(json.dumps(found.record())) == found.record()


def test_differences_of_one_draw_or_with_a_gap_tell_nothing() -> None:
    assert draws_needed(ALIKE[:1]) is None
    assert draws_needed(ALIKE[:, :1]) is None
    assert draws_needed(np.array([[0.1, 0.2], [math.nan, 0.3]])) is None
