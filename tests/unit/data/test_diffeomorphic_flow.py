"""Flows: closed forms, no folds, composition and displaced points against slow loops."""

from __future__ import annotations

import math

import pytest
import torch

from fewlabel.data.diffeomorphic_flow import compose, displaced, flow, smallest_determinant

SIZE = (48, 56)


def pixels():
    y, x = torch.meshgrid(torch.arange(SIZE[0]).float(), torch.arange(SIZE[1]).float(), indexing="ij")
    return torch.stack([x, y])


def bump(centre, width):
    return torch.exp(-(pixels() - torch.tensor(centre)[:, None, None]).square().sum(0) / (2 * width**2))


def smooth(n=3, strength=8.0):
    """Random smooth velocities that end well before the border."""
    generator = torch.Generator().manual_seed(0)
    fields = []
    for _ in range(n):
        parts = [bump((28.0, 24.0), 5.0) * float(torch.randn(1, generator=generator)) for _ in range(2)]
        fields.append(torch.stack(parts))
    velocity = strength * torch.stack(fields)
    return torch.where(velocity.norm(dim=1, keepdim=True) < 1e-3, 0.0, velocity)


def bilinear(plane, x, y):
    x, y = min(max(x, 0), plane.shape[1] - 1), min(max(y, 0), plane.shape[0] - 1)
    i, j = min(int(y), plane.shape[0] - 2), min(int(x), plane.shape[1] - 2)
    a, b = y - i, x - j
    return float(
        plane[i, j] * (1 - a) * (1 - b) + plane[i, j + 1] * (1 - a) * b + plane[i + 1, j] * a * (1 - b)
        + plane[i + 1, j + 1] * a * b
    )  # fmt: skip


def test_a_constant_velocity_is_a_shift():
    velocity = torch.zeros(1, 2, *SIZE)
    velocity[:, 0], velocity[:, 1] = 3.5, -2.25
    torch.testing.assert_close(flow(velocity), velocity, rtol=0, atol=1e-4)


def test_a_linear_velocity_is_an_exponential():
    centre = torch.tensor([27.5, 23.5])[:, None, None]
    away = pixels() - centre
    found = flow(0.4 * away[None])[0]
    # Far enough inside for no path to leave the image.
    inside = away.abs().amax(dim=0) < 14
    expected = (math.exp(0.4) - 1) * away
    torch.testing.assert_close(found[:, inside], expected[:, inside], rtol=1e-2, atol=1e-3)


def test_points_follow_the_velocity_as_a_slow_integration_says():
    velocity = smooth(strength=5.0)
    found = flow(velocity)
    for row, x, y in ((0, 28, 24), (1, 22, 20), (2, 33, 29)):
        place = [float(x), float(y)]
        for _ in range(400):
            step = [bilinear(velocity[row, axis], *place) / 400 for axis in range(2)]
            place = [place[0] + step[0], place[1] + step[1]]
        assert found[row, 0, y, x] == pytest.approx(place[0] - x, abs=0.08)
        assert found[row, 1, y, x] == pytest.approx(place[1] - y, abs=0.08)


def test_what_rests_stays_exactly_and_no_velocity_is_no_displacement():
    velocity = smooth()
    found = flow(velocity)
    rest = (velocity == 0).all(dim=1, keepdim=True).expand_as(velocity)
    assert bool(rest.any())
    assert float(found[rest].abs().max()) == 0
    assert bool((found[~rest] != 0).any())
    assert not flow(torch.zeros(2, 2, *SIZE)).any()


def test_a_flow_does_not_fold_where_its_velocity_as_a_displacement_would():
    velocity = smooth(strength=25.0)
    assert float(smallest_determinant(velocity).min()) < 0
    assert float(smallest_determinant(flow(velocity)).min()) > 0


def test_backwards_undoes_forwards():
    velocity = smooth(strength=5.0)
    assert float(compose(flow(velocity), flow(-velocity)).abs().max()) < 0.25
    assert float(flow(velocity).abs().max()) > 3


def test_a_row_is_the_same_in_any_batch():
    velocity = smooth(11)
    torch.testing.assert_close(flow(velocity)[9], flow(velocity[9:10])[0], rtol=0, atol=0)


def test_composition_is_one_after_the_other():
    outer, inner = smooth(2) / 3, smooth(4)[2:] / 2
    found = compose(outer, inner)
    for row, x, y in ((0, 25, 21), (1, 31, 26)):
        u, v = (float(outer[row, axis, y, x]) for axis in range(2))
        assert found[row, 0, y, x] == pytest.approx(u + bilinear(inner[row, 0], x + u, y + v), abs=1e-4)
        assert found[row, 1, y, x] == pytest.approx(v + bilinear(inner[row, 1], x + u, y + v), abs=1e-4)
    assert not torch.equal(found, compose(inner, outer))


def test_determinants_of_linear_maps():
    away = pixels()
    field = torch.stack([torch.stack([0.5 * away[0], -0.25 * away[1]]), torch.stack([away[1], 2 * away[0]])])
    torch.testing.assert_close(smallest_determinant(field), torch.tensor([1.5 * 0.75, 1 - 2.0]), rtol=0, atol=1e-5)
    field[0, 0, 20, 30] -= 2
    assert float(smallest_determinant(field)[0]) < 0


def test_points_are_displaced_by_what_lies_at_them():
    field = smooth(2)
    units = torch.tensor([2 / SIZE[1], 2 / SIZE[0]])
    places = torch.tensor([[25.25, 22.5], [30.0, 27.75]])
    points = ((2 * places + 1) / torch.tensor([SIZE[1], SIZE[0]]) - 1).T[None, :, None].contiguous()
    found = displaced(points, field)
    assert found.shape == (2, 2, 1, 2)
    for row in range(2):
        for place in range(2):
            for axis in range(2):
                moved = bilinear(field[row, axis], *places[place].tolist()) * float(units[axis])
                assert found[row, axis, 0, place] == pytest.approx(float(points[0, axis, 0, place]) + moved, abs=1e-5)
    assert torch.equal(displaced(points, torch.zeros_like(field[:1])), points)
    everywhere = torch.ones_like(field[:1])
    assert torch.equal(displaced(points + 9, everywhere), points + 9)
    torch.testing.assert_close(displaced(points, everywhere), points + units[None, :, None, None])
