"""Images against each other: turns, magnifications and shifts that were put in come out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from fewlabel.data import in_plane_registration
from fewlabel.data.in_plane_registration import ANGLES, LAGS, RING_STEP, RINGS, Fields, fit_to_mean, match_all
from kit.poses import SIDE, heart, placed

MIDDLE = (SIDE - 1) / 2


def fields(pictures: list[np.ndarray], box: tuple[float, ...] = (0, SIDE - 1, 0, SIDE - 1)) -> Fields:
    channels = np.asarray([pictures], np.float32)
    return Fields(channels, np.ones((1, len(pictures)), bool), np.tile(np.array(box, float), (len(pictures), 1)))


def picture(turn: float = 0.0, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    return ndimage.gaussian_filter(placed(heart(1, "ED")[3:5], turn, zoom, shift).mean(axis=0), 1.5)


def best(scores: np.ndarray) -> tuple[int, int]:
    lag, step = np.unravel_index(int(scores.argmax()), scores.shape)
    return int(lag) - LAGS, int(step)


@pytest.mark.parametrize("turn", [0, 3, 45, 120, -60, 180])
def test_a_turn_is_the_place_of_the_peak(turn: int) -> None:
    scores = match_all(fields([picture(turn), picture()]), np.full((2, 2), MIDDLE), 40)
    assert best(scores[0, 1]) == (0, turn % 360 * ANGLES // 360)
    # The other way round it is the opposite.
    assert best(scores[1, 0]) == (0, -turn % 360 * ANGLES // 360)
    assert scores[0, 1].max() > 0.97
    assert scores[0, 0, LAGS, 0] == pytest.approx(1, abs=1e-5)


def test_a_clockwise_turn_is_positive() -> None:
    # A bright spot to the right, and one below: from the column axis towards the row axis is a quarter turn.
    spots = [np.zeros((SIDE, SIDE)) for _ in range(2)]
    spots[0][48, 70], spots[1][70, 48] = 1, 1
    pictures = [ndimage.gaussian_filter(spot, 3) for spot in spots]
    scores = match_all(fields([pictures[1], pictures[0]]), np.full((2, 2), 48.0), 40)
    assert best(scores[0, 1]) == (0, ANGLES // 4)


@pytest.mark.parametrize("lag", [-2, -1, 1, 2])
def test_a_magnification_is_a_shift_of_rings(lag: int) -> None:
    large = picture(zoom=float(np.exp(lag * RING_STEP)))
    scores = match_all(fields([large, picture()]), np.full((2, 2), MIDDLE), 40)
    assert best(scores[0, 1]) == (lag, 0)


def test_correlation_as_a_slow_loop() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, RINGS, ANGLES)).astype(np.float32)
    seen = (rng.random((2, RINGS, ANGLES)) < 0.9).astype(np.float32)
    values *= seen
    found = in_plane_registration._correlate(values, seen)
    weights = np.exp(RING_STEP * np.arange(1 - RINGS, 1))
    for lag, step in ((0, 0), (0, 17), (2, 5), (-3, 119)):
        product, first, second = 0.0, 0.0, 0.0
        for ring in range(max(0, lag), RINGS + min(0, lag)):
            for angle in range(ANGLES):
                a, b = (0, ring, (angle + step) % ANGLES), (1, ring - lag, angle)
                product += weights[ring] * values[a] * values[b]
                first += weights[ring] * values[a] ** 2 * seen[b]
                second += weights[ring] * seen[a] * values[b] ** 2
        assert found[0, 1, lag + LAGS, step] == pytest.approx(product / np.sqrt(first * second), abs=1e-5)


def test_what_lies_outside_of_the_field_of_view_counts_for_nothing() -> None:
    clean = fields([picture(30), picture(), picture(-20, 1.1)], (12, 83, 6, 89))
    rubbish = clean.channels.copy()
    rng = np.random.default_rng(0)
    for region in (np.s_[..., :12, :], np.s_[..., 84:, :], np.s_[..., :6], np.s_[..., 90:]):
        rubbish[region] = rng.normal(size=rubbish[region].shape)
    dirty = replace(clean, channels=rubbish)
    centres = np.full((3, 2), MIDDLE)
    np.testing.assert_array_equal(match_all(clean, centres, 45), match_all(dirty, centres, 45))
    fits = [fit_to_mean(kind, centres, np.zeros(3), 45) for kind in (clean, dirty)]
    np.testing.assert_array_equal(fits[0][0], fits[1][0])
    np.testing.assert_array_equal(fits[0][1], fits[1][1])


def test_where_too_little_is_seen_of_both_nothing_matches() -> None:
    # Two halves of a disc, one the mirror image of the other, share nothing unless one is turned.
    halves = fields([picture(), picture()])
    halves.boxes[0, 3], halves.boxes[1, 2] = MIDDLE - 2, MIDDLE + 2
    scores = match_all(halves, np.full((2, 2), MIDDLE), 40)
    assert (scores[0, 1, :, 0] == -1).all()
    assert (scores[0, 1, :, ANGLES // 2] > -1).all()


def test_a_channel_counts_where_both_have_it() -> None:
    two = np.asarray([[picture(30), picture(), picture(10)], [picture(30), picture(50), picture(90)]], np.float32)
    boxes = np.tile([0.0, SIDE - 1, 0.0, SIDE - 1], (3, 1))
    centres = np.full((3, 2), MIDDLE)
    both = match_all(Fields(two, np.array([[True] * 3, [True, True, False]]), boxes), centres, 40)
    first = match_all(Fields(two[:1], np.ones((1, 3), bool), boxes), centres, 40)
    second = match_all(Fields(two[1:], np.ones((1, 3), bool), boxes), centres, 40)
    np.testing.assert_allclose(both[0, 1], (first[0, 1] + second[0, 1]) / 2, atol=1e-6)
    np.testing.assert_allclose(both[0, 2], first[0, 2], atol=1e-6)


def test_each_goes_to_the_mean_of_the_others() -> None:
    moved = fields([picture(), picture(), picture(), picture(45, 1.0, (4.0, -6.0))])
    centres, turns = fit_to_mean(moved, np.full((4, 2), MIDDLE), np.zeros(4), 44)
    # To the pixels of the search, three of the picture here.
    np.testing.assert_allclose(centres[3], [MIDDLE + 4, MIDDLE - 6], atol=2)
    assert np.degrees(turns[3]) == pytest.approx(45)
    np.testing.assert_allclose(centres[:3], MIDDLE, atol=1e-9)
    np.testing.assert_array_equal(turns[:3], 0)


def test_a_picture_without_contrast_stays_where_it_is() -> None:
    flat = np.full((SIDE, SIDE), 0.5)
    centres = np.array([[40.0, 50.0], [48.0, 48.0], [44.0, 47.0]])
    places, turns = fit_to_mean(fields([flat, picture(), picture(40)]), centres, np.array([0.3, 0.0, 0.0]), 40)
    np.testing.assert_array_equal(places[0], centres[0])
    assert turns[0] == 0.3
    scores = match_all(fields([flat, picture()]), centres[:2], 40)
    np.testing.assert_allclose(scores[0, 1], 0, atol=1e-4)
