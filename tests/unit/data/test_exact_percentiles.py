"""Percentiles by counting are NumPy's, to the bit, and need no copy."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from fewlabel.data.exact_percentiles import percentiles

KINDS = {
    "real": lambda rng, count: rng.normal(size=count) * 10 ** rng.uniform(-3, 6),
    "whole": lambda rng, count: rng.integers(0, 40, count),
    "few": lambda rng, count: rng.integers(-3, 4, count),
    "below zero": lambda rng, count: -np.abs(rng.normal(size=count)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_they_are_those_of_numpy(kind):
    rng = np.random.default_rng(0)
    for count in (1, 2, 3, 7, 100, 1000, 2999):
        values = KINDS[kind](rng, count).astype(np.float32)
        for percents in ((1.0, 99.0), (0.0, 100.0), (50.0, 25.0), tuple(rng.uniform(0, 100, 2))):
            assert percentiles(values, percents) == [float(value) for value in np.percentile(values, percents)]
        floor = float(np.median(values))
        if (above := values[values > floor]).size:
            assert percentiles(values, (1.0, 99.0), floor) == [float(v) for v in np.percentile(above, (1.0, 99.0))]


def test_blocks_are_joined_and_nothing_is_copied():
    values = np.random.default_rng(0).normal(size=(3, 400, 500)).astype(np.float32)
    wanted = [float(value) for value in np.percentile(values, (1, 99))]
    tracemalloc.start()
    assert percentiles(values, (1, 99)) == wanted
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Blocks of keys, and counts of half the bits.
    assert peak < 16 << 20


def test_no_values_have_no_percentiles():
    with pytest.raises(ValueError, match="no values"):
        percentiles(np.ones(3, dtype=np.float32), (1, 99), above=1.0)
