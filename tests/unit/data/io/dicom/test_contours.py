"""Polygons to masks: closed forms, and a slow loop that asks of each pixel whether it is inside."""

import numpy as np
import pytest
from matplotlib import path

from fewlabel.data.io.dicom.contours import fill_contours

SHAPE = (9, 11)


def box(left, top, right, bottom):
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], dtype=float)


def slow(contours, shape):
    """Even-odd rule by a ray to the right of each centre, edge by edge."""
    mask = np.zeros(shape, bool)
    for row in range(shape[0]):
        for column in range(shape[1]):
            crossings = 0
            for points in contours:
                for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
                    if (y0 <= row) != (y1 <= row) and x0 + (row - y0) * (x1 - x0) / (y1 - y0) > column:
                        crossings += 1
            mask[row, column] = crossings % 2 == 1
    return mask


def test_a_square():
    expected = np.zeros(SHAPE, bool)
    expected[2:6, 3:8] = True
    assert np.array_equal(fill_contours([box(2.5, 1.5, 7.5, 5.5)], SHAPE), expected)
    # The other way round, and begun elsewhere.
    assert np.array_equal(fill_contours([np.roll(box(2.5, 1.5, 7.5, 5.5)[::-1], 1, axis=0)], SHAPE), expected)


def test_a_square_with_a_hole_and_an_island():
    contours = [box(0.5, 0.5, 9.5, 7.5), box(2.5, 1.5, 8.5, 6.5), box(4.5, 3.5, 6.5, 4.5)]
    expected = np.zeros(SHAPE, bool)
    expected[1:8, 1:10] = True
    expected[2:7, 3:9] = False
    expected[4:5, 5:7] = True
    assert np.array_equal(fill_contours(contours, SHAPE), expected)
    assert np.array_equal(fill_contours(contours[::-1], SHAPE), expected)


def test_a_hole_that_is_entered_by_a_channel():
    outer, inner = box(0.5, 0.5, 9.5, 7.5), box(2.5, 1.5, 8.5, 6.5)
    keyhole = np.concatenate([outer, outer[:1], inner, inner[:1]])
    assert np.array_equal(fill_contours([keyhole], SHAPE), fill_contours([outer, inner], SHAPE))


def test_neighbours_share_no_pixel_and_leave_none():
    # Edges run through centres.
    parts = [box(1, 1, 5, 7), box(5, 1, 9, 4), box(5, 4, 9, 7)]
    counts = sum(fill_contours([part], SHAPE).astype(int) for part in parts)
    assert counts.max() == 1
    assert counts.sum() == 8 * 6


def test_what_lies_beyond_the_slice_is_cut_off():
    assert fill_contours([box(-50, -50, 50, 50)], SHAPE).all()
    assert not fill_contours([box(-50, -50, -5, 50)], SHAPE).any()
    assert not fill_contours([box(20, 0, 30, 8)], SHAPE).any()
    assert not fill_contours([], SHAPE).any()
    assert not fill_contours([np.array([[3.0, 4.0]])], SHAPE).any()


@pytest.mark.parametrize("seed", range(6))
def test_any_polygons_are_those_of_the_slow_loop(seed):
    generator = np.random.default_rng(seed)
    # Some corners at centres, some edges along rows, some crossings of an edge with another.
    contours = [generator.uniform(-3, 13, (count, 2)) for count in (3, 5, 8)]
    contours.append(np.rint(generator.uniform(-1, 10, (7, 2))))
    assert np.array_equal(fill_contours(contours, SHAPE), slow(contours, SHAPE))


@pytest.mark.parametrize("seed", range(6))
def test_polygons_whose_edges_meet_no_centre_are_those_of_matplotlib(seed):
    shape = (40, 41)
    contours = [np.random.default_rng(seed).uniform(-3, 43, (count, 2)) for count in (3, 5, 8, 20)]
    y, x = np.mgrid[: shape[0], : shape[1]]
    centres = np.stack([x.ravel(), y.ravel()], axis=1)
    inside = [path.Path([*points, points[0]]).contains_points(centres) for points in contours]
    assert np.array_equal(fill_contours(contours, shape), np.logical_xor.reduce(inside).reshape(shape))
