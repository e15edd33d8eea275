"""Structures: nesting from masks alone, bodies through the slices, surfaces and walls against closed forms."""

from __future__ import annotations

import numpy as np
import pytest

from fewlabel.data.nested_structures import MOST_BODIES, find_bodies, find_nesting
from fewlabel.data.structure_distances import signed_distance, surface_of, wall_of

SIZE = (72, 80)
Y, X = np.mgrid[: SIZE[0], : SIZE[1]]


def disc(y, x, radius):
    return (Y - y) ** 2 + (X - x) ** 2 < radius**2


def heart(inner=10, outer=16, right=True):
    mask = np.zeros(SIZE, np.uint8)
    if right:
        mask[disc(36, 24, 14)] = 1
    mask[disc(36, 44, outer)] = 2
    mask[disc(36, 44, inner)] = 3
    return mask


def test_a_cavity_lies_in_its_wall_and_neighbours_in_nothing():
    found = find_nesting([heart(), heart(12), heart(14, right=False)], 4)
    assert found.parents == {3: 2}
    assert found.roots == {1: 1, 2: 2, 3: 2}
    assert found.within(2) == [2, 3]
    assert (found.depth(1), found.depth(2), found.depth(3)) == (0, 0, 1)
    halves = np.zeros(SIZE, np.uint8)
    halves[20:50, 20:40], halves[20:50, 40:60] = 1, 2
    assert find_nesting([halves], 3).parents == {}


def test_a_wall_that_is_open_in_few_slices_still_encloses_but_not_one_that_is_open_in_most():
    closed, open_ = heart(), heart()
    open_[20:52, 44:] = np.where(open_[20:52, 44:] == 2, 0, open_[20:52, 44:])
    assert find_nesting([closed, closed, open_], 4).parents == {3: 2}
    assert find_nesting([closed, open_, open_], 4).parents == {}
    # A slice that has neither of them says nothing.
    empty = np.zeros(SIZE, np.uint8)
    assert find_nesting([closed, empty, empty], 4).parents == {3: 2}


def test_what_has_no_label_is_no_wall():
    mask = heart()
    mask[mask == 2] = 255
    assert find_nesting([mask], 4).parents == {}
    assert find_nesting([np.full(SIZE, 255, np.uint8)], 4).parents == {}


def test_nests_go_deep_and_the_outer_of_two_that_touch_only_each_other_is_at_the_border():
    mask = np.zeros(SIZE, np.uint8)
    mask[disc(36, 40, 24)] = 2
    mask[disc(36, 40, 15)] = 3
    mask[disc(36, 40, 8)] = 1
    found = find_nesting([mask], 4)
    assert found.parents == {1: 3, 3: 2}
    assert found.roots == {1: 2, 2: 2, 3: 2}
    assert found.depth(1) == 2
    assert sorted(found.within(2)) == [1, 2, 3]
    full = np.full(SIZE, 1, np.uint8)
    full[disc(36, 40, 10)] = 2
    assert find_nesting([full], 3).parents == {2: 1}
    # Though the outer one is the smaller, and touches nothing else: it goes on beyond the border of the image.
    full[disc(36, 40, 33)] = 2
    assert find_nesting([full], 3).parents == {2: 1}


def test_bodies_are_connected_through_the_slices_and_numbered_by_size():
    masks = np.zeros((3, *SIZE), np.uint8)
    masks[:, disc(20, 20, 6)] = 1
    masks[1:, disc(50, 20, 9)] = 1
    masks[0, disc(36, 56, 14)] = 2
    masks[0, disc(36, 56, 6)] = 3
    masks[2, 5:7, 70:72] = 1
    numbers, roots = find_bodies(masks, find_nesting(masks, 4))
    assert roots == [2, 1, 1]
    volumes = [int((numbers == number).sum()) for number in (1, 2, 3)]
    assert volumes == sorted(volumes, reverse=True)
    assert {int(numbers[0, 36, 56]), int(numbers[0, 36, 46])} == {1}
    assert numbers[:, 50, 20].tolist() == [0, 2, 2]
    assert numbers[:, 20, 20].tolist() == [3, 3, 3]
    assert numbers[2, 5, 70] == 0


def test_more_bodies_than_numbers_are_no_fault():
    masks = np.zeros((1, 160, 160), np.uint8)
    for row in range(0, 155, 8):
        for column in range(0, 155, 8):
            masks[0, row : row + 5, column : column + 4] = 1
    masks[0, :4, :5] = 1
    numbers, roots = find_bodies(masks, find_nesting(masks, 2))
    assert len(roots) == numbers.max() == MOST_BODIES


def test_distances_have_their_zero_between_pixels():
    mask = np.zeros((9, 12), bool)
    mask[:, 5:] = True
    assert np.array_equal(signed_distance(mask), np.broadcast_to(4.5 - np.arange(12), (9, 12)))


def test_the_surface_of_a_disc():
    surface = surface_of(disc(35.5, 39.5, 20))
    away = np.hypot(Y - 35.5, X - 39.5)
    near = (away > 8) & (away < 30)
    assert np.abs(surface.distance.float().numpy() - (away - 20))[near].max() < 0.8
    normal = surface.normal.float().numpy()
    expected = np.stack([X - 39.5, Y - 35.5]) / away
    assert np.abs(normal - expected)[:, near].max() < 0.1
    assert np.hypot(*normal)[35:37, 39:41].max() < 0.4
    assert surface.depth == pytest.approx(19.5, abs=0.6)
    width = surface.half_width.float().numpy()
    assert width.min() == pytest.approx(20, abs=0.7)
    assert width.max() == pytest.approx(20, abs=0.7)


def test_a_tube_is_as_wide_as_it_is_though_it_leads_to_a_disc():
    mask = disc(36, 24, 16)
    mask[33:40, 24:76] = True
    width = surface_of(mask).half_width.float().numpy()
    assert width[36, 20] == pytest.approx(15.5, abs=1.0)
    assert width[36, 66] == pytest.approx(4.0, abs=0.5)
    # Outside it is that of what is nearest.
    assert width[24, 62] == pytest.approx(4.0, abs=0.5)
    assert width[60, 20] == pytest.approx(15.5, abs=1.0)


def test_no_surface_where_nothing_or_all_is_labelled():
    assert surface_of(np.zeros(SIZE, bool)) is None
    assert surface_of(np.ones(SIZE, bool)) is None


def test_the_wall_of_a_ring():
    cavity, whole = disc(35.5, 39.5, 12), disc(35.5, 39.5, 20)
    wall = wall_of(3, 1, cavity, whole)
    assert (wall.label, wall.level) == (3, 1)
    thickness = wall.thickness.float().numpy()
    assert np.abs(thickness[whole] - 8).max() < 1.0
    room = wall.room.float().numpy()
    assert bool((room[~whole] <= 0).all())
    assert room[35, 54] == pytest.approx(5.5, abs=0.8)
    # Not even in a slit that smoothing would close.
    slit = whole.copy()
    slit[35, 53:] = False
    assert bool((wall_of(3, 1, cavity, slit).room.numpy()[~slit] <= 0).all())
    assert wall_of(3, 1, cavity, cavity) is None
    assert wall_of(3, 1, np.zeros(SIZE, bool), whole) is None
    assert wall_of(3, 1, cavity, np.ones(SIZE, bool)) is None
