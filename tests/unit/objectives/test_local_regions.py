import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fewlabel.objectives.local_regions import (
    collapsed_value,
    lattice,
    lower_bound,
    nearest_regions,
    region_contrast,
    window_pixels,
)

TAU = 0.1


def units(*shape, seed=0):
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return functional.normalize(values, dim=-1)


def slow_loss(first, second, neighbours, temperature=TAU):
    """The formula by loops over images, copies, regions and neighbours."""
    found = []
    for image, (a, b) in itertools.product(range(len(first)), [(first, second), (second, first)]):
        for r, near in enumerate(neighbours.tolist()):
            positive = (a[image, r] @ b[image, r] / temperature).exp()
            negatives = sum(
                (a[image, r] @ a[image, q] / temperature).exp() + (a[image, r] @ b[image, q] / temperature).exp()
                for q in near
            )
            found.append(-(positive / (positive + negatives)).log())
    return torch.stack(found).mean()


def places_by_hand(order, size, window):
    """Centres from the description: corners at half a window from the borders, n x n and the middles between them."""
    half = window // 2
    lines = [
        [round(half + step * (side - 1 - 2 * half) / (2 * order - 2)) for step in range(2 * order - 1)] for side in size
    ]
    outer = itertools.product(range(0, 2 * order, 2), repeat=2)
    inner = itertools.product(range(1, 2 * order - 2, 2), repeat=2)
    return [(lines[0][row], lines[1][column]) for row, column in sorted([*outer, *inner])]


def cells(centre, window):
    half = window // 2
    return set(itertools.product(*(range(place - half, place + half + 1) for place in centre)))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 5), st.integers(1, 40), st.integers(1, 40), st.sampled_from([1, 3, 5]))
def test_regions_are_side_by_side_and_inside_or_refused(order, height, width, window):
    centres = places_by_hand(order, (height, width), window)
    covered = [cells(centre, window) for centre in centres]
    inside = all(0 <= row < height and 0 <= column < width for part in covered for row, column in part)
    disjoint = len(set().union(*covered)) == len(centres) * window**2
    if inside and disjoint:
        assert lattice(order, (height, width), window).tolist() == [list(centre) for centre in centres]
    else:
        with pytest.raises(ValueError, match=f"{len(centres)} regions of {window}x{window} pixels overlap"):
            lattice(order, (height, width), window)


def test_golden_places():
    assert lattice(2, (9, 9), 3).tolist() == [[1, 1], [1, 7], [4, 4], [7, 1], [7, 7]]
    thirteen = lattice(3, (48, 40), 3)
    assert len(thirteen) == 13
    assert thirteen.tolist()[:5] == [[1, 1], [1, 20], [1, 38], [12, 10], [12, 29]]
    assert thirteen.amin(dim=0).tolist() == [1, 1]
    assert thirteen.amax(dim=0).tolist() == [46, 38]
    assert [len(lattice(order, (64, 64), 3)) for order in (2, 3, 4, 5)] == [5, 13, 25, 41]
    # Regions may touch along one axis only, as long as they share no pixel.
    assert lattice(2, (7, 9), 3).tolist() == [[1, 1], [1, 7], [3, 4], [5, 1], [5, 7]]


@pytest.mark.parametrize("count", [1, 4, 5, 12])
def test_neighbours_are_the_closest_others_and_never_the_region_itself(count):
    centres = lattice(3, (24, 32), 3)
    found = nearest_regions(centres, count)
    assert found.dtype == torch.int64
    for region, near in enumerate(found.tolist()):
        gaps = [math.dist(centres[region].tolist(), other) for other in centres.tolist()]
        expected = sorted((gap, place) for place, gap in enumerate(gaps) if place != region)[:count]
        assert near == [place for _, place in expected]
        assert region not in near


def test_golden_neighbours():
    assert nearest_regions(lattice(2, (9, 9), 3), 1).flatten().tolist() == [2, 2, 0, 2, 2]
    assert nearest_regions(lattice(2, (9, 9), 3), 2).tolist() == [[2, 1], [2, 0], [0, 1], [2, 0], [2, 1]]


@pytest.mark.parametrize("count", [0, 5])
def test_a_region_has_no_more_neighbours_than_there_are_others(count):
    with pytest.raises(ValueError, match=f"1 to 4 neighbours, not {count}"):
        nearest_regions(lattice(2, (9, 9), 3), count)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_pixels_of_a_region_are_the_window_around_its_centre_row_by_row(window):
    height, width = 23, 31
    centres = lattice(2, (height, width), window)
    found = window_pixels(centres, window, width)
    half = window // 2
    image = torch.arange(height * width).view(height, width)
    for (row, column), pixels in zip(centres.tolist(), found, strict=True):
        part = image[row - half : row + half + 1, column - half : column + half + 1]
        assert torch.equal(pixels, part.flatten())


@settings(max_examples=6, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.sampled_from([0.07, 0.1, 0.5]), st.integers(0, 10_000))
def test_loss_and_gradient_equal_the_loops(images, count, temperature, seed):
    neighbours = nearest_regions(lattice(2, (9, 9), 3), count)
    copies = [units(images, 5, 6, seed=seed + copy).requires_grad_() for copy in (0, 1)]
    found = region_contrast(*copies, neighbours, temperature)
    expected = slow_loss(*copies, neighbours, temperature)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    gradients = [torch.autograd.grad(loss, copies) for loss in (found, expected)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_golden_value():
    first = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    second = torch.tensor([[[0.8, 0.6], [0.0, 1.0]]], dtype=torch.float64)
    # Over τ: pairs at 1.6 and 2; region 1 of either copy at 0 from region 0 of the first and at 1.2 from the second's.
    near, far = math.exp(1.2), math.exp(0)
    one = [math.log(1 + 2 * far / math.exp(1.6)), math.log(1 + (far + near) / math.exp(2))]
    two = [math.log(1 + 2 * near / math.exp(1.6)), math.log(1 + (near + far) / math.exp(2))]
    found = region_contrast(first, second, torch.tensor([[1], [0]]), 0.5)
    assert found.item() == pytest.approx(sum(one + two) / 4, abs=1e-12)


def test_equal_copies_of_orthogonal_regions_cost_nothing_when_cold():
    rows = torch.eye(5, dtype=torch.float64)[None]
    neighbours = nearest_regions(lattice(2, (9, 9), 3), 3)
    losses = [region_contrast(rows, rows, neighbours, temperature).item() for temperature in (0.5, 0.1, 0.02)]
    expected = [math.log1p(6 * math.exp(-1 / temperature)) for temperature in (0.5, 0.1, 0.02)]
    assert losses == pytest.approx(expected, abs=1e-12)
    assert losses[-1] < 1e-12


def test_neither_order_of_images_nor_of_copies_nor_a_rotation_matters():
    neighbours = nearest_regions(lattice(2, (9, 9), 3), 3)
    first, second = units(4, 5, 6), units(4, 5, 6, seed=1)
    value = region_contrast(first, second, neighbours, TAU)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(region_contrast(first[order], second[order], neighbours, TAU), value)
    torch.testing.assert_close(region_contrast(second, first, neighbours, TAU), value)
    turn = torch.linalg.qr(units(6, 6, seed=2))[0]
    torch.testing.assert_close(region_contrast(first @ turn, second @ turn, neighbours, TAU), value)
    names = torch.tensor([4, 2, 0, 1, 3])
    renamed = names.argsort()[neighbours[names]]
    torch.testing.assert_close(region_contrast(first[:, names], second[:, names], renamed, TAU), value)


def test_the_loss_of_two_processes_is_the_mean_of_theirs():
    neighbours = nearest_regions(lattice(2, (9, 9), 3), 3)
    first, second = units(4, 5, 6), units(4, 5, 6, seed=1)
    parts = [region_contrast(first[part], second[part], neighbours, TAU) for part in (slice(2), slice(2, 4))]
    torch.testing.assert_close(sum(parts) / 2, region_contrast(first, second, neighbours, TAU))


@pytest.mark.parametrize("count", [1, 4])
def test_equal_regions_cost_the_collapse_value(count):
    rows = units(1, 1, 6).expand(3, 5, 6)
    found = region_contrast(rows, rows, nearest_regions(lattice(2, (9, 9), 3), count), TAU)
    assert found.item() == pytest.approx(collapsed_value(count), abs=1e-12)
    assert collapsed_value(count) == pytest.approx(math.log(1 + 2 * count), abs=1e-15)


def test_the_lower_bound_is_reached_by_opposite_neighbours_and_never_passed():
    rows = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]], dtype=torch.float64)
    found = region_contrast(rows, rows, torch.tensor([[1], [0]]), 0.5)
    assert found.item() == pytest.approx(lower_bound(1, 0.5), abs=1e-12)
    assert lower_bound(3, 0.5) == pytest.approx(math.log(1 + 6 * math.exp(-4)), abs=1e-12)
    neighbours = nearest_regions(lattice(2, (9, 9), 3), 3)
    for seed in range(20):
        loss = region_contrast(units(2, 5, 2, seed=seed), units(2, 5, 2, seed=seed + 50), neighbours, 0.5)
        assert loss.item() >= lower_bound(3, 0.5)


def test_full_precision_under_autocast_and_no_overflow_when_cold():
    neighbours = nearest_regions(lattice(2, (9, 9), 3), 3)
    copies = [units(2, 5, 16, seed=seed).bfloat16().requires_grad_() for seed in (0, 1)]
    with torch.autocast("cpu", torch.bfloat16):
        found = region_contrast(*copies, neighbours, 0.01)
    assert found.dtype == torch.float32
    exact = slow_loss(*(copy.detach().double() for copy in copies), neighbours, 0.01)
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)
    found.backward()
    assert all(torch.isfinite(copy.grad).all() for copy in copies)
