"""Points of a grid's regions and the losses on them: golden values, loops, and what a view does not show."""

import dataclasses
import functools
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.methods.point_losses import affinity_loss, region_loss, region_means
from fewlabel.methods.points import ForeignKeys, Points, draw_points, foreign_keys
from kit import places
from kit.pretraining import toy_batch

# Not square, so that rows and columns cannot be exchanged unseen.
SIZE = (8, 12)
GRID, DRAWN, KEPT = 2, 5, 3
SEED = 7
affine = functools.partial(places.affine, SIZE)
#: A turned pair, one whose second view misses the right regions, one whose second view misses all, one in part.
FIRST = torch.stack([affine(0.3, 1.2), affine(), affine(-0.4, flip=-1), affine(1.0, 0.9, shift=(1, 2))])
SECOND = torch.stack([affine(-0.5, 1.1, -1), affine(zoom=2, shift=(6, 0)), affine(shift=(50, 0)), affine(zoom=1.6)])


def batch_of(first=FIRST, second=SECOND):
    generator = torch.Generator().manual_seed(SEED)
    return dataclasses.replace(toy_batch(len(first), size=SIZE), matrices=(first, second), generator=generator)


def one_slice(regions, real=None):
    """Points of one slice whose places do not matter."""
    regions = torch.tensor(regions)
    shown = torch.ones(1, len(regions), dtype=torch.bool) if real is None else torch.tensor([real])
    return Points(torch.zeros(1, len(regions), 2), shown, regions, SIZE)


def rows(*vectors):
    return torch.tensor([vectors], dtype=torch.float64)


def no_foreign(count=1, dim=2):
    return ForeignKeys(torch.zeros(0, dim, dtype=torch.float64), torch.zeros(count, 0, dtype=torch.bool))


def test_golden_value_of_the_region_loss():
    first, second = one_slice([0, 1, 1]), one_slice([0, 0, 1], [True, True, True])
    anchors, keys = rows((1.0, 0.0), (0.0, 1.0), (0.6, 0.8)), rows((0.8, 0.6), (1.0, 0.0), (0.0, 1.0))
    other = ForeignKeys(rows((-1.0, 0.0))[0], torch.ones(1, 1, dtype=torch.bool))
    loss, collapsed = region_loss(anchors, keys, first, second, other, 0.5)
    # Negatives of the first are (0, 1) and (-1, 0); each of its two positives meets them alone.
    one = sum(math.log(1 + (math.exp(0) + math.exp(-2)) / math.exp(s / 0.5)) for s in (0.8, 1.0)) / 2
    two = math.log(1 + (math.exp(0.6 / 0.5) + math.exp(0) + math.exp(0)) / math.exp(1 / 0.5))
    cosines = (0.6 * 0.8 + 0.8 * 0.6, 0.6, -0.6, 0.8)
    three = math.log(1 + sum(math.exp(s / 0.5) for s in cosines[:3]) / math.exp(cosines[3] / 0.5))
    assert loss.item() == pytest.approx((one + two + three) / 3, abs=1e-12)
    assert collapsed.item() == pytest.approx((math.log(3) + 2 * math.log(4)) / 3, abs=1e-12)


def test_golden_value_of_the_affinity_loss():
    first, second = one_slice([0]), one_slice([0, 1, 1], [True, True, False])
    teacher, student = rows((0.5, 0.3, 0.9)), rows((0.4, 0.2, 0.8))
    found = affinity_loss(teacher, student, first, second, torch.tensor([0.1, -0.1]), 0.2, 0.5)
    # The third key is not shown. Centred and sharpened: 0.4 / 0.2 and 0.4 / 0.2; the student's 0.8 and 0.4.
    p = 0.5
    q = 1 / (1 + math.exp(-0.4))
    assert found.loss.item() == pytest.approx(-p * math.log(q) - (1 - p) * math.log(1 - q), abs=1e-7)
    assert found.entropy.item() == pytest.approx(math.log(2), abs=1e-7)
    assert found.collapsed.item() == pytest.approx(math.log(2), abs=1e-12)


def test_points_lie_in_their_regions_of_the_slice_and_in_the_view():
    batch = batch_of()
    for matrices, points in zip(batch.matrices, draw_points(batch, GRID, DRAWN, KEPT), strict=True):
        for n, matrix in enumerate(matrices):
            inverse = torch.linalg.inv(matrix)
            for (x, y), real, region in zip(
                points.places[n].tolist(), points.real[n].tolist(), points.regions.tolist(), strict=True
            ):
                source = inverse @ torch.tensor([x, y, 1.0], dtype=torch.float64)
                column, row = ((source[:2] + 0.5) / torch.tensor([SIZE[1] / GRID, SIZE[0] / GRID])).tolist()
                assert (math.floor(row), math.floor(column)) == divmod(region, GRID)
                assert real == places.on_image(x, y, SIZE)
    first, second = draw_points(batch_of(), GRID, DRAWN, KEPT)
    assert 0 < int(second.real.sum()) < second.real.numel()
    assert second.real.sum(dim=1)[2] == 0
    # Drawn for each view apart.
    assert not torch.equal(first.places[1], draw_points(batch_of(FIRST, FIRST), GRID, DRAWN, KEPT)[1].places[1])


def test_points_equal_those_of_the_loop():
    batch, generator = batch_of(), torch.Generator().manual_seed(SEED)
    slow = places.slow_points(batch.matrices, SIZE, generator, grid=GRID, drawn=DRAWN, kept=KEPT)
    for points, view in zip(draw_points(batch, GRID, DRAWN, KEPT), slow, strict=True):
        for n, row in enumerate(view):
            for p, (region, x, y) in enumerate(row):
                assert bool(points.real[n, p]) == (x is not None)
                assert int(points.regions[p]) == region
                if x is not None:
                    assert points.places[n, p].tolist() == pytest.approx([x, y], abs=1e-5)
    assert torch.equal(batch.generator.get_state(), generator.get_state())


def test_a_region_that_the_other_view_does_not_show_has_no_positives():
    # The second view of slice 1 shows the left half alone.
    first, second = (part for part in draw_points(batch_of(), GRID, 30, KEPT))
    left = (first.regions % GRID == 0).tolist()
    assert [bool(real) for real in second.real[1]] == left
    generator = torch.Generator().manual_seed(0)
    anchors, keys = (torch.randn(4, 12, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    anchors = functional.normalize(anchors, dim=-1).requires_grad_()
    loss, _ = region_loss(anchors, functional.normalize(keys, dim=-1), first, second, no_foreign(4, 6), 0.2)
    (gradient,) = torch.autograd.grad(loss, anchors)
    assert [bool(row.abs().sum() > 0) for row in gradient[1]] == left
    # Slice 2 has no key at all.
    assert torch.equal(gradient[2], torch.zeros_like(gradient[2]))


def test_foreign_keys_are_drawn_without_replacement_and_are_shown_points_of_other_slices():
    keys = torch.arange(24.0).view(4, 6, 1)
    real = torch.rand(4, 6, generator=torch.Generator().manual_seed(0)) < 0.7
    owners, mine = torch.tensor([5, 8, 5, 9]), torch.arange(4)
    found = foreign_keys(keys, real, owners, mine, 10, torch.Generator().manual_seed(1))
    numbers = found.rows[:, 0].long()
    assert len(set(numbers.tolist())) == 10
    for n in range(4):
        for place, number in enumerate(numbers.tolist()):
            allowed = bool(real.flatten()[number]) and owners[number // 6] != owners[n]
            assert bool(found.allowed[n, place]) == bool(allowed)
    assert len(foreign_keys(keys, real, owners, mine, 100, torch.Generator()).rows) == 24
    draws = {
        tuple(foreign_keys(keys, real, owners, mine, 3, torch.Generator().manual_seed(seed)).rows[:, 0].tolist())
        for seed in range(5)
    }
    assert len(draws) == 5


def test_means_for_the_centre_are_exact_under_autocast():
    generator = torch.Generator().manual_seed(0)
    regions = torch.arange(3).repeat_interleave(100)
    real = torch.rand(9, 300, generator=generator) < 0.9
    real[:, 200:] = False
    points = Points(torch.zeros(9, 300, 2), real, regions, SIZE)
    cosines, centre = torch.rand(9, 300, 300, generator=generator), torch.tensor([0.0, 0.0, 0.25])
    with torch.autocast("cpu", torch.bfloat16):
        found = region_means(cosines, points, points, centre)
    both = real[:, :, None] & real[:, None]
    expected = [float(cosines[both & (regions == region)].double().mean()) for region in (0, 1)]
    assert found.tolist() == pytest.approx([*expected, 0.25], abs=1e-5)
