"""Shares of contact between classes within slices."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.scoring.class_contacts import contact_shares, unlikeness


def slow_shares(mask, count):
    """Pixel by pixel, over the four neighbours of each, background beyond the edge."""
    touched = np.zeros((count, count))
    for place, own in np.ndenumerate(mask):
        for row, column in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            near = (place[0], place[1] + row, place[2] + column)
            inside = 0 <= near[1] < mask.shape[1] and 0 <= near[2] < mask.shape[2]
            other = mask[near] if inside else 0
            touched[own, other] += other != own
            # What lies beyond has a boundary as well.
            touched[0, own] += not inside and own != 0
    return touched / np.maximum(touched.sum(axis=1, keepdims=True), 1)


@pytest.mark.parametrize("seed", range(4))
def test_shares_equal_a_slow_loop(seed):
    mask = np.random.default_rng(seed).integers(0, 4, (3, 7, 6)).astype(np.uint8)
    shares = contact_shares(mask, 5)
    np.testing.assert_allclose(shares, slow_shares(mask, 5))
    np.testing.assert_allclose(shares.sum(axis=1), [1, 1, 1, 1, 0])
    np.testing.assert_allclose(contact_shares(np.moveaxis(mask, 0, 1), 5, 1), shares)
    np.testing.assert_allclose(contact_shares(np.moveaxis(mask, 0, 2), 5, 2), shares)


def test_shares_do_not_change_with_pixels_or_slices():
    mask = np.zeros((2, 8, 8), np.uint8)
    mask[:, 2:6, 2:4], mask[:, 2:6, 4:5] = 1, 2
    shares = contact_shares(mask, 3)
    np.testing.assert_allclose(contact_shares(mask.repeat(3, 1).repeat(3, 2), 3), shares)
    np.testing.assert_allclose(contact_shares(mask.repeat(5, 0), 3), shares)
    # 4 by 2 and 4 by 1 pixels that share an edge of 4.
    np.testing.assert_allclose(shares[1:], [[8 / 12, 0, 4 / 12], [6 / 10, 4 / 10, 0]])


def test_unlikeness_counts_the_rows_of_its_classes():
    first = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 0.0]])
    second = np.array([[0, 0, 1], [0.5, 0, 0.5], [1, 0, 0]])
    assert unlikeness(first, second, [1]) == 1.0
    assert unlikeness(first, second, [1, 2]) == 2.0
    assert unlikeness(first, first, [0, 1, 2]) == 0.0
