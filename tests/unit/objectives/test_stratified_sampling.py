"""Samplers: counts, unbiasedness, reflection, and the variance table, by Monte Carlo and by slow loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from fewlabel.objectives.stratified_sampling import draw_pixels, draw_places, grid_cells, pixel_strata

MODES = ("ns", "sg", "sag")
#: Sizes that do not divide, an empty stratum and one of a single pixel.
SIZES = torch.tensor([[37, 5, 81, 12, 1, 0, 64, 100, 3]])


def ordered(strata):
    """Flat pixels sorted by class, stratum and raster order, as a tensor."""
    return torch.from_numpy(strata.pixels(np.arange(len(strata.order))))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def counts_of(strata, columns):
    return torch.stack([(strata == m).sum(dim=1) for m in range(columns)], dim=1)


# --- counts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sg", "sag"])
@pytest.mark.parametrize("count", [1, 7, 50, 303, 1000])
def test_counts_are_proportional_sum_up_and_are_right_on_average(mode, count):
    trials = 1500
    strata, _ = draw_places(SIZES.expand(trials, -1), count, mode, seeded())
    found = counts_of(strata, SIZES.shape[1])
    share = count * SIZES[0].double() / SIZES.sum()
    assert bool((found.sum(dim=1) == count).all())
    assert bool(((found - share).abs() < 1).all())
    error = (found.double().mean(dim=0) - share).abs()
    spread = ((share - share.floor()) * (1 - share + share.floor()) / trials).sqrt()
    assert bool((error <= 4.5 * spread + 1e-12).all())


def test_two_strata_in_turn_do_not_fall_in_step_with_the_rounding():
    # 16 strata of one size, n = 8: without shuffling, systematic rounding takes all the even or all the odd ones.
    generator = seeded()
    strata = torch.cat([draw_places(torch.full((1, 16), 5), 8, "sg", generator)[0] for _ in range(2000)])
    even = (strata % 2 == 0).sum(dim=1).double()
    assert abs(float(even.mean()) - 4) < 0.2
    # Drawing 8 of 16 without replacement: hypergeometric, variance 8/2 · 1/2 · 8/15.
    assert float(even.var()) == pytest.approx(8 * 0.25 * 8 / 15, rel=0.15)


def test_groups_of_one_call_are_uncorrelated_though_their_order_is_one():
    generator, sizes = seeded(), torch.full((2, 16), 5)
    values = torch.randn(16, generator=generator, dtype=torch.float64)
    means = torch.stack([values[draw_places(sizes, 8, "sg", generator)[0]].mean(dim=1) for _ in range(2000)])
    assert abs(float(torch.corrcoef(means.T)[0, 1])) < 4 / 2000**0.5


def test_one_stratum_makes_stratified_draws_naive_ones():
    sizes = torch.tensor([[11], [4]])
    naive, stratified = (draw_places(sizes, 9, mode, seeded()) for mode in ("ns", "sg"))
    assert torch.equal(naive[0], stratified[0])
    assert torch.equal(naive[1], stratified[1])


@pytest.mark.parametrize("mode", ["sg", "sag"])
def test_a_stratum_per_pixel_and_as_many_draws_give_every_pixel_once(mode):
    labels = torch.zeros(2, 4, 4, dtype=torch.int64)
    pixels = draw_pixels(pixel_strata(labels, 1, 4), 32, mode, seeded())[0, 0]
    assert sorted(pixels.tolist()) == list(range(32))


def test_an_empty_group_is_no_error_and_disturbs_no_other():
    sizes = torch.tensor([[3, 2], [0, 0], [0, 4]])
    for mode in MODES:
        strata, places = draw_places(sizes, 6, mode, seeded())
        for group in (0, 2):
            assert bool((places[group] >= 0).all())
            assert bool((places[group] < sizes[group, strata[group]]).all())
        assert bool((strata[2] == 1).all())


@pytest.mark.parametrize("mode", MODES)
def test_strata_are_drawn_by_their_mass_where_one_is_given(mode):
    trials = 3000
    mass = torch.tensor([[1, 0, 3]]).expand(trials, -1)
    strata, places = draw_places(torch.tensor([[50, 7, 2]]).expand(trials, -1), 10, mode, seeded(), mass)
    found = counts_of(strata, 3).double().mean(dim=0)
    torch.testing.assert_close(found, torch.tensor([2.5, 0.0, 7.5]).double(), atol=0.1, rtol=0)
    assert bool((places[strata == 2] < 2).all())


# --- unbiasedness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [50, 33])
def test_every_place_is_drawn_as_often(mode, count):
    trials, total = 20000, int(SIZES.sum())
    starts = SIZES[0].cumsum(0) - SIZES[0]
    strata, places = draw_places(SIZES.expand(trials, -1), count, mode, seeded(count))
    pixels = starts[strata] + places
    times = torch.bincount(pixels.flatten(), minlength=total).double()
    expected = trials * count / total
    # Draws of a place are as good as independent between trials; within one they are no more than twice as spread.
    assert len(times) == total
    assert float((times - expected).abs().max()) < 4.5 * (expected * (2 if mode == "sag" else 1)) ** 0.5
    assert float((times - expected).square().mean()) / expected == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("mode", MODES)
def test_an_irregular_mask_is_drawn_evenly(mode):
    generator = seeded(3)
    labels = (torch.rand(3, 13, 9, generator=generator) < 0.4).long()
    labels[1] = 0
    strata = pixel_strata(labels, 2, 4)
    pixels = draw_pixels(strata, 20, mode, generator, repeats=8000)[:, 1].flatten()
    times = torch.bincount(pixels, minlength=labels.numel()).double()
    inside = labels.flatten() == 1
    assert float(times[~inside].sum()) == 0
    expected = 8000 * 20 / int(inside.sum())
    assert float((times[inside] - expected).abs().max()) < 5 * (2 * expected) ** 0.5


# --- strata of images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("space", "grid"), [((8, 8), 4), ((7, 10), 3), ((5, 6, 9), 2), ((3, 4), 5)])
def test_cells_are_those_of_a_loop(space, grid):
    cells = grid_cells(space, grid)
    assert cells.shape == space
    for place in torch.cartesian_prod(*[torch.arange(length) for length in space]).tolist():
        expected = 0
        for coordinate, length in zip(place, space, strict=True):
            expected = expected * grid + coordinate * grid // length
        assert int(cells[tuple(place)]) == expected
    assert int(cells.max()) < grid ** len(space)


def test_more_classes_than_a_byte_holds_are_an_error():
    with pytest.raises(ValueError, match="255 classes"):
        pixel_strata(torch.zeros(1, 4, 4, dtype=torch.int64), 256, 2)


def test_a_grid_without_cells_is_an_error():
    with pytest.raises(ValueError, match="1 cell or more"):
        grid_cells((4, 4), 0)


@pytest.mark.parametrize("space", [(9, 8), (4, 6, 5)])
@pytest.mark.parametrize("grid", [1, 3])
def test_strata_are_cells_met_with_image_and_class(space, grid):
    labels = torch.randint(-1, 5, (3, *space), generator=seeded(1))
    labels[labels == 4] = 255
    labels[2][labels[2] == 1] = 0
    strata = pixel_strata(labels, 4, grid)
    cells, count = grid_cells(space, grid).flatten(), grid ** len(space)
    flat, order = labels.flatten(1), ordered(strata)
    for c in range(4):
        for image in range(3):
            for cell in range(count):
                expected = [
                    image * flat.shape[1] + p
                    for p in range(flat.shape[1])
                    if int(flat[image, p]) == c and int(cells[p]) == cell
                ]
                m = image * count + cell
                start, size = int(strata.starts[c, m]), int(strata.sizes[c, m])
                # In raster order, on which the reflection rests.
                assert order[start : start + size].tolist() == expected
    assert strata.totals.tolist() == [int((labels == c).sum()) for c in range(4)]
    assert pixel_strata(labels, 4, None).sizes[:, 0].tolist() == strata.totals.tolist()


@pytest.mark.parametrize("classes", [3, 255])
def test_large_tables_sort_as_small_ones(classes):
    labels = torch.randint(0, 3, (8, 8, 8), generator=seeded(2))
    strata = pixel_strata(labels, classes, 8)
    pixels = draw_pixels(strata, 64, "sag", seeded())[0]
    for c in range(3):
        assert bool((labels.flatten()[pixels[c]] == c).all())
    assert strata.sizes.shape == (classes, 8 * 64)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("space", [(8, 8), (4, 6, 5)])
def test_pixels_belong_to_their_class_in_two_dimensions_and_in_three(mode, space):
    labels = torch.randint(0, 3, (2, *space), generator=seeded(4))
    labels[labels == 1] = 255
    drawn = draw_pixels(pixel_strata(labels, 3, 2), 17, mode, seeded(), repeats=3)
    assert drawn.shape == (3, 3, 17)
    assert int(drawn.min()) >= 0
    assert int(drawn.max()) < labels.numel()
    for c in (0, 2):
        assert bool((labels.flatten()[drawn[:, c]] == c).all())
    assert not torch.equal(drawn[0], drawn[1])


def test_what_is_drawn_from_the_generator_does_not_depend_on_the_labels():
    after = []
    for fill in (0, 1, 255):
        generator = seeded()
        draw_pixels(pixel_strata(torch.full((2, 6, 6), fill), 2, 3), 5, "sag", generator)
        after.append(torch.rand(3, generator=generator))
    assert torch.equal(after[0], after[1])
    assert torch.equal(after[0], after[2])


def test_golden_draws():
    labels = (torch.arange(24) % 5 < 2).long().view(1, 4, 6)
    strata = pixel_strata(labels, 2, 2)
    assert strata.sizes.tolist() == [[3, 3, 5, 3], [3, 3, 1, 3]]
    assert {mode: draw_pixels(strata, 4, mode, seeded(7))[0, 1].tolist() for mode in MODES} == GOLDEN


GOLDEN = {"ns": [15, 5, 11, 10], "sg": [1, 15, 11, 5], "sag": [1, 15, 11, 5]}

# --- antithetic pairs ------------------------------------------------------------------------------------------------


def test_pairs_are_reflections_and_odd_counts_leave_one_free():
    sizes = torch.tensor([[9, 4, 1, 6]])
    strata, places = draw_places(sizes.expand(500, -1), 13, "sag", seeded())
    seen_odd = False
    for row, place in zip(strata.tolist(), places.tolist(), strict=True):
        for m in set(row):
            mine = [p for s, p in zip(row, place, strict=True) if s == m]
            size = int(sizes[0, m])
            for first, second in zip(mine[::2], mine[1::2], strict=False):
                assert second == size - 1 - first
            seen_odd |= len(mine) % 2 == 1
        # The draws of a stratum follow each other.
        assert len([1 for a, b in itertools.pairwise(row) if a != b]) == len(set(row)) - 1
    assert seen_odd


def test_the_reflection_of_a_full_cell_is_the_point_reflection():
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    strata = pixel_strata(labels, 1, 2)
    for m in range(4):
        cell = ordered(strata)[strata.starts[0, m] :][:16]
        centre = torch.stack([cell // 8, cell % 8]).double().mean(dim=1, keepdim=True)
        offset = torch.stack([cell // 8, cell % 8]) - centre
        assert torch.equal(offset.flip(1), -offset)


# --- variance --------------------------------------------------------------------------------------------------------

SIDE, GRID, N, TRIALS = 32, 4, 64, 20000


def smooth():
    y, x = torch.meshgrid(torch.linspace(0, 1, SIDE).double(), torch.linspace(0, 1, SIDE).double(), indexing="ij")
    noise = 0.1 * torch.randn(SIDE, SIDE, generator=seeded(0), dtype=torch.float64)
    return torch.sin(2 * torch.pi * x) + torch.cos(torch.pi * y) + noise


def linear():
    y, x = torch.meshgrid(torch.arange(SIDE).double(), torch.arange(SIDE).double(), indexing="ij")
    return x + 2 * y


def even():
    """Equal at a place and its reflection in the cell."""
    half = torch.randn(GRID * GRID, 32, generator=seeded(1), dtype=torch.float64)
    cells = torch.cat([half, half.flip(1)], dim=1)
    field = torch.empty(SIDE * SIDE, dtype=torch.float64)
    strata = pixel_strata(torch.zeros(1, SIDE, SIDE, dtype=torch.int64), 1, GRID)
    field[ordered(strata)] = cells.flatten()
    return field.view(SIDE, SIDE)


def white():
    return torch.randn(SIDE, SIDE, generator=seeded(2), dtype=torch.float64)


def steps():
    heights = torch.randn(GRID * GRID, generator=seeded(3), dtype=torch.float64)
    return heights[grid_cells((SIDE, SIDE), GRID)]


def estimates(field, strata, mode, count, trials=TRIALS, seed=0):
    pixels = draw_pixels(strata, count, mode, seeded(seed), repeats=trials)[:, 0]
    return field.flatten()[pixels].mean(dim=1)


def theory(field, strata, count):
    """Var NS, Var SG and Var SAG by the identities, a loop over strata."""
    values, order = field.flatten(), ordered(strata)
    inside = order[: int(strata.totals[0])]
    total, within, paired = len(inside), 0.0, 0.0
    for m in range(strata.sizes.shape[1]):
        size = int(strata.sizes[0, m])
        if size == 0:
            continue
        cell = values[order[strata.starts[0, m] :][:size]]
        variance = float(cell.var(unbiased=False))
        covariance = float(((cell - cell.mean()) * (cell.flip(0) - cell.mean())).mean())
        within += size / total * variance
        paired += size / total * (variance + covariance)
    return float(values[inside].var(unbiased=False)) / count, within / count, paired / count


@pytest.mark.parametrize("field", [smooth, linear, even, white, steps])
def test_variances_are_those_of_the_theorem(field):
    h = field()
    strata = pixel_strata(torch.zeros(1, SIDE, SIDE, dtype=torch.int64), 1, GRID)
    naive, stratified, antithetic = theory(h, strata, N)
    found = {mode: estimates(h, strata, mode, N) for mode in MODES}
    scale = naive
    for mode, expected in zip(MODES, (naive, stratified, antithetic), strict=True):
        variance = float(found[mode].var())
        assert variance == pytest.approx(expected, rel=0.06, abs=1e-9 * scale)
        # Unbiased, within four standard errors.
        assert abs(float(found[mode].mean() - h.mean())) <= 4 * (expected / TRIALS) ** 0.5 + 1e-9 * scale**0.5
    # The gap holds the weights of the strata; as printed, without them, it is 16 times that, more than Var NS itself.
    cells = torch.stack([h.flatten()[ordered(strata)[64 * m : 64 * m + 64]].mean() for m in range(16)])
    gap = float((cells - h.mean()).square().mean()) / N
    assert naive - stratified == pytest.approx(gap, rel=1e-9, abs=1e-12 * scale)
    assert antithetic <= 2 * stratified + 1e-12 * scale


def test_fields_that_show_what_reflection_does():
    strata = pixel_strata(torch.zeros(1, SIDE, SIDE, dtype=torch.int64), 1, GRID)
    assert float(estimates(linear(), strata, "sag", N, 500).var()) < 1e-20
    assert float(estimates(steps(), strata, "sg", N, 500).var()) < 1e-24
    twice = estimates(even(), strata, "sag", N).var() / estimates(even(), strata, "sg", N).var()
    assert float(twice) == pytest.approx(2, rel=0.06)


@pytest.mark.parametrize("field", [smooth, linear, white, steps])
@pytest.mark.parametrize("grid", [2, 5, 8])
@pytest.mark.parametrize("count", [10, 64])
def test_strata_of_unequal_sizes_never_do_harm(field, grid, count):
    h, trials = field(), 4000
    labels = (torch.rand(1, SIDE, SIDE, generator=seeded(5)) < 0.5).long() - 1
    labels = torch.where(labels == 0, 0, 255)
    labels[:, :9, :20] = 255
    strata = pixel_strata(labels, 1, grid)
    naive, _, _ = theory(h, strata, count)
    # Anew in every call: the order of the strata.
    found = torch.cat([estimates(h, strata, "sg", count, 40, seed) for seed in range(trials // 40)])
    truth = float(h.flatten()[ordered(strata)[: int(strata.totals[0])]].mean())
    # Four deviations of an estimate of a variance.
    assert float(found.var()) <= naive * (1 + 4 * (2 / trials) ** 0.5)
    assert abs(float(found.mean()) - truth) <= 4 * (naive / trials) ** 0.5
