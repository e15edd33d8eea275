"""Where labels lie and how thick their structures are, by closed forms and a slow loop."""

from __future__ import annotations

import math

import numpy as np
import pytest

from fewlabel.data.label_extents import label_shapes


def disc(radius: float, inner: float = 0.0, side: int = 96) -> np.ndarray:
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    distance = np.hypot(y, x)
    return ((distance < radius) & (distance >= inner)).astype(np.int64)[None]


def test_an_empty_mask_has_no_shapes() -> None:
    assert label_shapes(np.zeros((3, 4, 5), dtype=np.int64)) == {}


def test_boxes_voxels_and_borders_equal_a_slow_loop() -> None:
    mask = np.random.default_rng(0).choice([0, 0, 0, -5, 2, 600], (4, 7, 6))
    mask[:, 0] = mask[:, :, 5] = 0
    found = label_shapes(mask)
    assert set(found) == {-5, 2, 600}
    padded = np.pad(mask, 1)
    for value, shape in found.items():
        places = np.argwhere(mask == value)
        assert shape.first == tuple(places.min(0))
        assert shape.last == tuple(places.max(0))
        assert shape.voxels == len(places)
        for axis in range(3):
            crossings = 0
            for place in places + 1:
                for step in (-1, 1):
                    there = place.copy()
                    there[axis] += step
                    crossings += padded[tuple(there)] != value
            assert shape.borders[axis] == crossings


@pytest.mark.parametrize(("rows", "columns"), [(1.0, 1.0), (0.5, 0.5)])
def test_the_thickness_of_a_disc_is_its_radius_and_of_a_ring_its_wall(rows: float, columns: float) -> None:
    round_one, ring = label_shapes(disc(30))[1], label_shapes(disc(40, 28))[1]
    assert round_one.thickness((1, rows), (2, columns)) == pytest.approx(30 * rows, rel=0.03)
    assert ring.thickness((1, rows), (2, columns)) == pytest.approx(12 * rows, rel=0.03)


def test_pixels_of_unequal_sides_count_by_their_size() -> None:
    """A disc of 20 mm on pixels of 1 x 2 mm."""
    y, x = np.mgrid[:64, :64] - 31.5
    squashed = (np.hypot(y, 2 * x) < 20).astype(np.int64)[None]
    assert label_shapes(squashed)[1].thickness((1, 1.0), (2, 2.0)) == pytest.approx(20, rel=0.04)
    # The same array laid the other way round.
    turned = label_shapes(squashed.transpose(2, 1, 0))[1]
    assert turned.thickness((1, 1.0), (0, 2.0)) == pytest.approx(20, rel=0.04)


def test_a_strip_is_as_thick_as_it_is_wide() -> None:
    mask = np.zeros((2, 40, 400), dtype=np.int64)
    mask[:, 10:16] = 3
    # Straight along the pixels, where smooth outlines are understated by π/4.
    assert label_shapes(mask)[3].thickness((1, 1.0), (2, 1.0)) == pytest.approx(6 * 4 / math.pi, rel=0.05)


def test_voxels_without_size_do_no_harm() -> None:
    assert label_shapes(disc(5))[1].thickness((1, 0.0), (2, 0.0)) == 0
