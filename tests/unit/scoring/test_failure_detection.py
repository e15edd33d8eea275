"""Whether a figure finds failed scans: the area under its ROC curve against a slow count, and its interval."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.scoring.failure_detection import failure_detection


def slow(signs, failed):
    pairs = [(a > b) + 0.5 * (a == b) for a, bad in zip(signs, failed, strict=True) if bad
             for b, poor in zip(signs, failed, strict=True) if not poor]  # fmt: skip
    return sum(pairs) / len(pairs)


def test_the_area_is_the_share_of_pairs_in_order_ties_by_half():
    generator = np.random.default_rng(0)
    signs = generator.integers(0, 6, 40).astype(float)
    dice = np.where(generator.random(40) < 0.4, 0.3, 0.8)
    found = failure_detection(signs.tolist(), dice.tolist(), list(range(40)))
    assert found["failed"] == (dice < 0.5).sum()
    assert found["below"] == 0.5
    assert found["auroc"] == pytest.approx(slow(signs, dice < 0.5))
    assert found["low"] < found["auroc"] < found["high"]


def test_its_ends():
    dice, subjects = [0.1, 0.2, 0.7, 0.8], ["a", "b", "c", "d"]
    assert failure_detection([4, 3, 2, 1], dice, subjects)["auroc"] == 1
    assert failure_detection([1, 2, 3, 4], dice, subjects)["auroc"] == 0
    assert failure_detection([1, 1, 1, 1], dice, subjects)["auroc"] == 0.5


@pytest.mark.parametrize("dice", [[0.1, 0.2, 0.3], [0.5, 0.8, 0.9], []])
def test_without_scans_of_both_kinds_there_is_none(dice):
    found = failure_detection(list(range(len(dice))), dice, list(range(len(dice))))
    assert (found["auroc"], found["low"], found["high"]) == (None, None, None)


def test_the_interval_resamples_subjects_and_needs_two_of_each_kind():
    signs, dice = [0.9, 0.8, 0.3, 0.85, 0.1, 0.2], [0.1, 0.2, 0.3, 0.8, 0.9, 0.7]
    alone = failure_detection(signs, dice, ["a", "a", "a", "b", "c", "d"])
    assert alone["auroc"] == pytest.approx(slow(signs, [True] * 3 + [False] * 3))
    assert (alone["low"], alone["high"]) == (None, None)
    many = failure_detection(signs * 30, dice * 30, [f"{name}{turn}" for turn in range(30) for name in "abcdef"])
    paired = failure_detection(signs * 30, dice * 30, [f"{turn}" for turn in range(30) for _ in "abcdef"])
    assert many["auroc"] == paired["auroc"] == pytest.approx(alone["auroc"])
    # Every subject is the same six scans, so whichever are drawn, the area is the same.
    assert paired["high"] - paired["low"] == pytest.approx(0)
    assert many["high"] - many["low"] > 0.05
    again = failure_detection(signs * 30, dice * 30, [f"{name}{turn}" for turn in range(30) for name in "abcdef"])
    assert again == many
