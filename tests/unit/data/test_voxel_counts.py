"""Counting by blocks counts what NumPy counts."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.data import voxel_counts
from fewlabel.data.io.integer_types import in_smallest_type, integer_type, integers
from fewlabel.data.voxel_counts import counts_of, value_counts


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.uint16, np.int64])
def test_blocks_are_added_up(monkeypatch, dtype):
    monkeypatch.setattr(voxel_counts, "_BLOCK", 7)
    rng = np.random.default_rng(0)
    low = max(-120, int(np.iinfo(dtype).min))
    mask = rng.integers(low, 120, (3, 5, 4)).astype(dtype)
    values, many = np.unique(mask, return_counts=True)
    assert value_counts(mask) == dict(zip(values.tolist(), many.tolist(), strict=True))
    indices = np.abs(mask.astype(np.int64)) % 11
    np.testing.assert_array_equal(counts_of(indices, 3), np.bincount(indices.ravel(), minlength=3))
    assert counts_of(np.zeros((0, 2), np.uint8), 4).tolist() == [0] * 4


def test_values_far_apart_are_counted_too():
    mask = np.array([[0, 2**40, 0], [-(2**40), 5, 5]])
    assert value_counts(mask) == {-(2**40): 1, 0: 2, 5: 2, 2**40: 1}


def test_types_hold_what_they_are_made_for():
    for values, wanted in (([0, 255], np.uint8), ([256], np.int16), ([-1, 40000], np.int32), ([2**40], np.int64)):
        assert integer_type(values) is wanted
        np.testing.assert_array_equal(in_smallest_type(np.array(values)), values)
    assert integers(np.array([True, False])).dtype == np.uint8
    assert integers(np.array([2**40], dtype=np.uint64)).dtype == np.int64
    swapped = np.array([1, 2], dtype=">i2")
    assert integers(swapped).dtype == np.int16
    assert integers(swapped).tolist() == [1, 2]
