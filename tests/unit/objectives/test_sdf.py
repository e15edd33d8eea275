"""Signed distances: closed forms, a slow loop, and what an absent class means."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewlabel.objectives.sdf import signed_distance, signed_distances, soft_mask


def slow(mask, known=None):
    """By looking at all pairs of pixels."""
    known = np.ones_like(mask) if known is None else known
    places = list(itertools.product(*map(range, mask.shape)))

    def faces(place):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            other = list(place)
            other[axis] += step
            if 0 <= other[axis] < mask.shape[axis]:
                yield tuple(other)

    within = [place for place in places if known[place] and mask[place]]
    beyond = {place for place in places if known[place] and not mask[place]}
    edge = [place for place in within if any(other in beyond for other in faces(place))]
    found = np.zeros(mask.shape)
    if not edge:
        for place in places:
            found[place] = 0 if not known[place] else -1 if mask[place] else 1
        return found
    distance = {place: min(math.dist(place, other) for other in edge) for place in places}
    deepest = max([distance[place] for place in within])
    farthest = max([distance[place] for place in beyond])
    for place in places:
        if place in edge or not known[place]:
            continue
        found[place] = -distance[place] / deepest if mask[place] else distance[place] / farthest
    return found


def disc(size=33, radius=9.0):
    y, x = np.mgrid[:size, :size] - size // 2
    return x**2 + y**2 <= radius**2


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([(6, 7), (1, 5), (4, 3, 5)]),
    st.floats(0.05, 0.95),
    st.floats(0.0, 0.95),
)
def test_it_is_the_slow_loop(seed, shape, share, ignored):
    rng = np.random.default_rng(seed)
    mask, known = rng.random(shape) < share, rng.random(shape) >= ignored
    np.testing.assert_allclose(signed_distance(mask), slow(mask), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(signed_distance(mask, known), slow(mask, known), rtol=1e-6, atol=1e-7)


def test_a_labelled_slice_of_a_volume_has_the_distances_that_it_has_alone():
    labels = torch.full((1, 5, 33, 33), 255)
    labels[0, 2] = torch.from_numpy(disc().astype(np.int64))
    found = signed_distances(labels, 2)[0, 0].numpy()
    assert np.array_equal(found[2], signed_distance(disc()))
    assert (np.delete(found, 2, axis=0) == 0).all()


def test_what_is_not_labelled_makes_no_boundary_and_no_largest_distance():
    labels = torch.tensor([[255, 1, 1, 1, 0, 0, 255, 255]])
    assert signed_distances(labels, 2)[0, 0].tolist() == [0, -1, -0.5, 0, 0.5, 1, 0, 0]
    hidden = torch.tensor([[1, 1, 255, 0, 0]])
    assert signed_distances(hidden, 2)[0, 0].tolist() == [-1, -1, 0, 1, 1]


def test_a_line_has_a_closed_form():
    mask = np.zeros(10, dtype=bool)
    mask[2:7] = True
    expected = [2 / 3, 1 / 3, 0, -0.5, -1, -0.5, 0, 1 / 3, 2 / 3, 1]
    np.testing.assert_allclose(signed_distance(mask), expected, rtol=1e-6)


def test_it_is_negative_inside_zero_on_the_boundary_and_within_bounds():
    mask = disc()
    found = signed_distance(mask)
    assert found.dtype == np.float32
    assert found.min() == -1
    assert found.max() == 1
    assert found[16, 16] == -1
    assert (found[~mask] > 0).all()
    inside = mask & (found != 0)
    assert (found[inside] < 0).all()
    # A disc's boundary is a thin ring.
    assert 2 * math.pi * 9 * 0.7 < (found == 0).sum() < 2 * math.pi * 9 * 1.3
    assert (found == 0)[mask].sum() == (found == 0).sum()


def test_the_sign_flips_across_the_boundary():
    row = signed_distance(disc())[16]
    signs = np.sign(row)
    assert list(signs) == [1] * 7 + [0] + [-1] * 17 + [0] + [1] * 7


def test_distances_grow_by_one_pixel_at_a_time():
    mask = np.zeros((21, 31), dtype=bool)
    mask[3:18, 8:23] = True
    found = signed_distance(mask)
    np.testing.assert_allclose(found[10, 8:16], -np.arange(8) / 7, rtol=1e-6)
    # The farthest pixels are the corners, 8 columns and 3 rows away.
    np.testing.assert_allclose(found[10, :8], np.arange(8, 0, -1) / math.hypot(8, 3), rtol=1e-6)


def test_a_perfect_distance_gives_the_mask_off_the_boundary():
    mask = disc(129, 30.0)
    found = signed_distance(mask)
    again = soft_mask(torch.from_numpy(found)).numpy()
    off = found != 0
    np.testing.assert_allclose(again[off], mask[off].astype(float), atol=1e-4)
    assert (again[~off] == 0.5).all()


def test_an_absent_class_is_far_outside_and_a_full_one_far_inside():
    assert (signed_distance(np.zeros((4, 5), dtype=bool)) == 1).all()
    assert (signed_distance(np.ones((4, 5), dtype=bool)) == -1).all()


def test_a_single_pixel_is_its_own_boundary():
    mask = np.zeros((3, 5), dtype=bool)
    mask[1, 1] = True
    found = signed_distance(mask)
    assert found[1, 1] == 0
    assert found[1, 2] == pytest.approx(1 / math.hypot(3, 1))
    assert found[0, 4] == 1


def test_the_edge_of_the_image_is_no_boundary():
    mask = np.zeros((5, 6), dtype=bool)
    mask[:, :3] = True
    np.testing.assert_allclose(signed_distance(mask), np.tile([-1, -0.5, 0, 1 / 3, 2 / 3, 1], (5, 1)), rtol=1e-6)


@pytest.mark.parametrize("space", [(9, 8), (4, 6, 5)])
def test_each_class_of_each_slice_has_its_own(space):
    labels = torch.randint(0, 4, (3, *space), generator=torch.Generator().manual_seed(0))
    labels[0][labels[0] == 2] = 255
    found = signed_distances(labels, 4)
    assert found.shape == (3, 3, *space)
    assert found.dtype == torch.float32
    for row, channel in itertools.product(range(3), range(3)):
        expected = signed_distance((labels[row] == channel + 1).numpy(), (labels[row] != 255).numpy())
        assert np.array_equal(found[row, channel].numpy(), expected)
    assert bool((found[0, 1][labels[0] != 255] == 1).all())


def test_no_slice_no_distance():
    assert signed_distances(torch.zeros(0, 4, 4, dtype=torch.int64), 3).shape == (0, 2, 4, 4)


def test_the_soft_mask_is_a_steep_sigmoid_that_falls():
    z = torch.tensor([-0.01, 0.0, 0.002], dtype=torch.float64, requires_grad=True)
    found = soft_mask(z, 100.0)
    expected = [1 / (1 + math.exp(100 * value)) for value in z.tolist()]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert soft_mask(z.detach()).tolist() == pytest.approx([1 / (1 + math.exp(1500 * v)) for v in z.tolist()])
    (gradient,) = torch.autograd.grad(found[1], z)
    assert float(gradient[1]) == pytest.approx(-25.0)
