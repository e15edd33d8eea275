"""Anatomies: areas, walls and shifts against closed forms; no folds, no leaks, nothing moved that should not be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.data import anatomy_warps, labelled_structures
from fewlabel.data.anatomy_warps import SLOTS, AnatomyConfig, AnatomyDraws, anatomy_displacements, draw_anatomies
from fewlabel.data.diffeomorphic_flow import _pixels, displaced, flow, smallest_determinant
from fewlabel.data.labelled_structures import AnatomyIndex
from kit.masks import SIZE, disc, heart, memory_store

CPU = torch.device("cpu")
#: Centre of the ring of a heart.
Y, X = SIZE[0] / 2 - 0.5, SIZE[1] / 2 - 0.5


def index_of(*masks, classes=4, **over):
    """Every mask a volume of its own."""
    store = memory_store([mask[None] for mask in masks], classes)
    return AnatomyIndex(store, np.arange(len(masks)), **over)


def draws(n=1, classes=4, reach=1.5, size=None, wall=None, shift=None):
    """Nothing but what is named: {class: value} for all bodies of a class."""
    made = AnatomyDraws(
        applied=torch.ones(n, dtype=torch.bool),
        size=torch.zeros(n, classes, SLOTS),
        reach=torch.full((n, classes, SLOTS), reach),
        shift=torch.zeros(n, classes, SLOTS, 2),
        wall=torch.zeros(n, classes),
    )
    for found, values in ((made.size, size), (made.wall, wall), (made.shift, shift)):
        for label, value in (values or {}).items():
            found[:, label] = torch.as_tensor(value, dtype=torch.float32)
    return made


def moved(mask, made, classes=4):
    """Displacement (2, h, w) of one mask, and the mask after it."""
    field = anatomy_displacements([index_of(mask, classes=classes)[0]], made, mask.shape, CPU)
    grid = displaced(_pixels(mask.shape, CPU), field).permute(0, 2, 3, 1)
    warped = functional.grid_sample(
        torch.from_numpy(mask)[None, None].float(), grid, mode="nearest", align_corners=False
    )
    return field[0], warped[0, 0].numpy().astype(np.uint8)


def area(mask, *labels):
    return int(np.isin(mask, labels).sum())


def test_nothing_drawn_is_the_identity_to_the_bit():
    mask = heart()
    field, warped = moved(mask, draws())
    assert not field.any()
    assert np.array_equal(warped, mask)
    grid = torch.rand(1, 2, 30, 40, generator=torch.Generator().manual_seed(0)) * 2.2 - 1.1
    assert torch.equal(displaced(grid, field[None]), grid)
    index = index_of(mask)
    off = draws(size={2: 0.5})
    off.applied[:] = False
    assert anatomy_displacements([index[0]], off, SIZE, CPU) is None


@pytest.mark.parametrize(("radius", "size"), [(20, 0.25), (20, -0.35), (12, 0.35), (12, -0.5), (24, 0.1)])
def test_a_disc_gets_the_area_of_its_new_radius(radius, size):
    mask = np.where(disc(Y, X, radius), 1, 0).astype(np.uint8)
    field, warped = moved(mask, draws(size={1: size}))
    # The largest disc of whole pixels within one of radius 12 is a little smaller.
    width = float(index_of(mask)[0].bodies[0].surface.half_width.max())
    assert radius - 0.8 < width < radius + 0.1
    assert area(warped, 1) == pytest.approx(math.pi * (radius + (math.exp(size) - 1) * width) ** 2, rel=0.06)
    assert float(smallest_determinant(field[None])) > 0.1
    # It stays where it was.
    rows, columns = np.nonzero(warped)
    assert (rows.mean(), columns.mean()) == pytest.approx((Y, X), abs=0.3)


def test_a_tube_gets_wider_by_its_own_width_not_by_that_of_the_disc_it_leads_to():
    mask = np.where(disc(Y, 30, 20), 1, 0).astype(np.uint8)
    mask[44:52, 30:100] = 1
    _, warped = moved(mask, draws(size={1: 0.4}))
    assert (warped[:, 80] > 0).sum() == pytest.approx(8 * math.exp(0.4), abs=1.1)
    assert (warped[:, 28] > 0).sum() == pytest.approx(40 * math.exp(0.4), abs=3)


def test_beyond_its_reach_nothing_moves_at_all():
    mask = np.zeros(SIZE, np.uint8)
    mask[disc(Y, 26, 12)] = 1
    mask[disc(Y, 84, 14)] = 2
    field, warped = moved(mask, draws(size={1: 0.3}, shift={1: [1.0, -1.0]}, reach=1.0))
    assert np.array_equal(warped == 2, mask == 2)
    assert not np.array_equal(warped == 1, mask == 1)
    rows, columns = np.ogrid[: SIZE[0], : SIZE[1]]
    # 12 pixels of reach, beyond what is swept.
    far = np.hypot(rows - Y, columns - 26) > 12 + 12 * (math.exp(0.3) - 1) + math.sqrt(2) + 12 + 2
    assert float(field[:, torch.from_numpy(far)].abs().max()) == 0
    assert float(field.abs().max()) > 3


@pytest.mark.parametrize("shift", [(4.0, 0.0), (-3.0, 2.5), (0.0, -4.0)])
def test_a_structure_is_shifted_as_it_is(shift):
    mask = heart(right=0)
    field, warped = moved(mask, draws(shift={2: shift}))
    inside = torch.from_numpy(np.isin(warped, (2, 3)))
    # Backwards: what is seen comes from where it was.
    expected = -torch.tensor(shift)[:, None]
    torch.testing.assert_close(field[:, inside], expected.expand(2, int(inside.sum())), rtol=0, atol=0.15)
    assert area(warped, 3) == pytest.approx(area(mask, 3), rel=0.03)
    assert area(warped, 2, 3) == pytest.approx(area(mask, 2, 3), rel=0.03)


@pytest.mark.parametrize("factor", [-0.6, -0.3, 0.3, 0.5])
def test_a_wall_changes_inwards_and_its_outer_surface_stays(factor):
    mask = heart(inner=14, outer=22, right=8)
    _, warped = moved(mask, draws(wall={3: factor}))
    assert np.array_equal(np.isin(warped, (2, 3)), np.isin(mask, (2, 3)))
    assert np.array_equal(warped == 1, mask == 1)
    radius = 22 - 8 * math.exp(factor)
    assert area(warped, 3) == pytest.approx(math.pi * radius**2, rel=0.08)


def test_a_cavity_never_closes():
    mask = heart(inner=5, outer=20, right=8)
    _, warped = moved(mask, draws(wall={3: 1.0}))
    assert 8 < area(warped, 3) < 40


def test_walls_grow_with_their_structure():
    mask = heart(inner=10, outer=16, right=0)
    _, warped = moved(mask, draws(size={2: 0.3}, wall={3: 0.3}))
    outer = math.sqrt(area(warped, 2, 3) / math.pi)
    inner = math.sqrt(area(warped, 3) / math.pi)
    assert outer == pytest.approx(16 * math.exp(0.3), rel=0.03)
    assert outer - inner == pytest.approx(6 * math.exp(0.3) * math.exp(0.3), rel=0.12)


def test_walls_within_walls_move_one_by_one():
    mask = np.zeros(SIZE, np.uint8)
    mask[disc(Y, X, 32)] = 1
    mask[disc(Y, X, 22)] = 2
    mask[disc(Y, X, 11)] = 3
    _, warped = moved(mask, draws(wall={3: 0.3}))
    assert np.array_equal(warped == 1, mask == 1)
    assert area(warped, 3) == pytest.approx(math.pi * (22 - 11 * math.exp(0.3)) ** 2, rel=0.1)
    _, warped = moved(mask, draws(wall={2: 0.3}))
    assert np.array_equal(warped > 0, mask > 0)
    assert area(warped, 2, 3) == pytest.approx(math.pi * (32 - 10 * math.exp(0.3)) ** 2, rel=0.08)
    assert area(warped, 3) < area(mask, 3)


def test_the_smaller_gives_way_to_the_larger():
    mask = heart(inner=12, outer=20, right=12)
    _, grown = moved(mask, draws(size={2: 0.25}))
    assert area(grown, 2, 3) == pytest.approx(math.pi * (20 * math.exp(0.25)) ** 2, rel=0.05)
    assert area(grown, 1) < area(mask, 1)
    # What the smaller does ends at the larger one, which it touches.
    _, warped = moved(mask, draws(size={1: 0.5}, shift={1: [3.0, 3.0]}))
    assert np.array_equal(np.isin(warped, (2, 3)), np.isin(mask, (2, 3)))
    assert np.array_equal(warped == 3, mask == 3)
    assert area(warped, 1) > 1.3 * area(mask, 1)


def test_bodies_of_a_class_are_drawn_apart_but_not_those_beyond_the_slots():
    mask = np.zeros(SIZE, np.uint8)
    mask[disc(30, 30, 13)] = 1
    mask[disc(66, 80, 9)] = 1
    made = draws(reach=0.5)
    made.size[0, 1, 1] = 0.4
    _, warped = moved(mask, made)
    assert np.array_equal(warped[:46], mask[:46])
    assert area(warped[46:], 1) > 1.8 * area(mask[46:], 1)


@pytest.mark.parametrize("seed", range(6))
def test_any_draw_keeps_the_labels_and_does_not_fold(seed):
    generator = torch.Generator().manual_seed(seed)
    config = AnatomyConfig(probability=1.0, size=1.0, wall=1.0, shift=12.0, reach=0.5)
    mask = [heart(), heart(8, 20, 20), heart(14, 16, 6), np.roll(heart(), 30, axis=1)][seed % 4]
    field, warped = moved(mask, draw_anatomies(config, 1, 4, generator))
    assert float(smallest_determinant(field[None])) > 0
    assert set(np.unique(warped)) <= set(np.unique(mask))
    assert {2, 3} <= set(np.unique(warped))


def test_more_steps_would_change_little(monkeypatch):
    config = AnatomyConfig(probability=1.0)
    made = draw_anatomies(config, 8, 4, torch.Generator().manual_seed(0))
    anatomies = index_of(heart(14, 22, 16))
    velocities = [torch.stack(anatomy_warps._velocities(anatomies[0], made, row, CPU)) for row in range(8)]
    layers = torch.stack(velocities, dim=1)
    few = flow(layers.flatten(0, 1))
    monkeypatch.setattr("fewlabel.data.diffeomorphic_flow.SQUARINGS", 9)
    apart = (few - flow(layers.flatten(0, 1))).norm(dim=1)
    assert float(apart.max()) < 0.5
    assert float(apart.flatten().quantile(0.99)) < 0.05
    assert float(layers.abs().max()) > 5


def test_nothing_leaves_the_image_however_far_it_is_pushed():
    mask = np.zeros(SIZE, np.uint8)
    mask[disc(Y, 98, 10)] = 1
    field, warped = moved(mask, draws(shift={1: [16.0, 0.0]}))
    rows, columns = np.nonzero(warped)
    assert columns.max() < SIZE[1] - 1
    assert columns.min() > 92
    assert len(rows) > 0.3 * area(mask, 1)
    # Points of the border come from the border.
    assert float(field[0, :, -1].abs().max()) == float(field[1, -1].abs().max()) == 0


def test_a_movement_that_would_fold_is_taken_as_far_as_it_does_not(monkeypatch):
    index, made = index_of(heart()), draws(size={2: 0.3})
    alone = anatomy_displacements([index[0]], made, SIZE, CPU)
    # A flow that is cut short of its squarings folds: a displacement as long as its velocity.
    monkeypatch.setattr(anatomy_warps, "flow", lambda velocity: 3.0 * velocity)
    found = anatomy_displacements([index[0]], made, SIZE, CPU)
    assert float(smallest_determinant(found)) > 0
    whole = 3.0 * -anatomy_warps._velocities(index[0], made, 0, CPU)[0]
    assert float(smallest_determinant(whole[None])) <= 0
    share = float(found.norm() / whole.norm())
    assert share * 16 == pytest.approx(round(share * 16), abs=1e-3)
    assert float(smallest_determinant(whole[None] * (share + 1 / 16))) <= 0
    assert float(found.abs().max()) > float(alone.abs().max()) / 4


def test_other_rows_have_no_say():
    index = index_of(heart(), np.zeros(SIZE, np.uint8), heart(12), np.full(SIZE, 255, np.uint8))
    made = draw_anatomies(AnatomyConfig(probability=1.0), 4, 4, torch.Generator().manual_seed(3))
    whole = anatomy_displacements([index[row] for row in range(4)], made, SIZE, CPU)
    assert not whole[1].any()
    assert not whole[3].any()
    for row in (0, 2):
        part = anatomy_displacements([index[row]], made[row : row + 1], SIZE, CPU)
        assert torch.equal(part[0], whole[row])
        assert bool(part.any())


def test_small_structures_do_not_swell_but_are_shifted_with_their_volume():
    thin, thick = np.zeros(SIZE, np.uint8), np.zeros(SIZE, np.uint8)
    thin[40:43, 50:60] = 1
    thick[36:47, 50:60] = 1
    field, _ = moved(thin, draws(size={1: 0.5}))
    assert not field.any()
    store = memory_store([np.stack([thick, thin, np.pad(np.ones((1, 2), np.uint8), ((40, 55), (55, 55)))])])
    index = AnatomyIndex(store, np.arange(3))
    made = draws(3, size={1: 0.5}, shift={1: [3.0, 0.0]})
    field = anatomy_displacements([index[row] for row in range(3)], made, SIZE, CPU)
    assert float(field[2, 0, 40, 58]) == pytest.approx(-3.0, abs=0.2)
    assert float(field[2, 1].abs().max()) == 0
    # Alone, two pixels are a speck.
    speck = index_of(np.asarray(store.labels[2]))
    assert speck[0].bodies == ()


def test_slices_of_a_volume_move_alike():
    radii = (18, 17, 16, 14, 12)
    volume = np.stack([heart(r - 6, r, 10) for r in radii])
    index = AnatomyIndex(memory_store([volume]), np.arange(5))
    made = draw_anatomies(AnatomyConfig(probability=1.0), 1, 4, torch.Generator().manual_seed(1))
    same = made[torch.zeros(5, dtype=torch.long)]
    assert len(same.applied) == 5
    field = anatomy_displacements([index[z] for z in range(5)], same, SIZE, CPU)
    steps = (field[1:] - field[:-1]).norm(dim=1).flatten(1).amax(dim=1)
    assert float(steps.max()) < 3
    assert float(field.norm(dim=1).max()) > 5


def test_draws_keep_their_limits_and_their_places():
    config = AnatomyConfig(probability=0.67, size=0.5, wall=0.6, shift=4.0, reach=1.5)
    made = draw_anatomies(config, 4000, 3, torch.Generator().manual_seed(0))
    assert float(made.applied.float().mean()) == pytest.approx(0.67, abs=0.03)
    for found, low, high in (
        (made.size, -0.5, 0.5),
        (made.wall, -0.6, 0.6),
        (made.shift, -4.0, 4.0),
        (made.reach, 0.75, 2.25),
    ):
        spread = 0.02 * (high - low)
        assert low <= float(found.min()) < low + spread
        assert high - spread < float(found.max()) <= high
        assert float(found.mean()) == pytest.approx((low + high) / 2, abs=spread)
    again = draw_anatomies(config, 4000, 3, torch.Generator().manual_seed(0))
    assert torch.equal(again.size, made.size)
    assert torch.equal(again.applied, made.applied)
    # Bodies, classes and rows are drawn apart.
    assert len(made.size[:9].unique()) == 9 * 3 * SLOTS
    rows = made[4:6]
    assert torch.equal(rows.shift, made.shift[4:6])
    assert torch.equal(rows.wall, made.wall[4:6])
    assert torch.equal(made[torch.tensor([4, 4])].reach[1], made.reach[4])


def test_surfaces_are_measured_once_and_kept_within_bounds(monkeypatch):
    measured = []
    original = labelled_structures.surface_of
    monkeypatch.setattr(labelled_structures, "surface_of", lambda mask: measured.append(1) or original(mask))
    index = index_of(heart(), heart(11), heart(12))
    for row in (0, 1, 2, 0, 1, 2):
        index[row]
    assert len(measured) == 6
    one = index._bytes // 3
    # A distance, two of a direction, a half-width of three surfaces; room and thickness of a wall.
    assert one == 14 * 2 * SIZE[0] * SIZE[1]
    small = index_of(heart(), heart(11), heart(12), kept=2 * one)
    first = small[0]
    small[1]
    assert small[0] is first
    small[2]
    assert small[0] is first
    assert small._bytes <= 2 * one
    assert list(small._measured) == [2, 0]
    tiny = index_of(heart(), heart(11), kept=1)
    assert torch.equal(tiny[0].bodies[0].surface.distance, first.bodies[0].surface.distance)
    tiny[1]
    assert list(tiny._measured) == [1]


def test_partial_labels_are_taken_as_far_as_they_go():
    mask = heart()
    mask[:40] = 255
    field, warped = moved(mask, draws(size={2: 0.2}, wall={3: 0.2}, shift={1: [2.0, 0.0]}))
    assert float(smallest_determinant(field[None])) > 0
    assert 255 in warped
    assert set(np.unique(warped)) == {0, 1, 2, 3, 255}


def test_settings_have_their_limits():
    for key, value in (("probability", 1.2), ("size", 1.5), ("wall", -0.1), ("shift", -1.0), ("reach", 0.0)):
        with pytest.raises(SettingsError, match=key):
            AnatomyConfig.parse({key: value})
