"""Registration behind the figures of carried labels: what it must find, and what it says of itself."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
MIDDLE = torch.tensor([63.5, 63.5])


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("affine", "likeness", "patients", "splines")
    found = {name: importlib.import_module(f"carrying.{name}") for name in names}
    return SimpleNamespace(**found, command=importlib.import_module("carried_labels"))


@pytest.fixture
def heart():
    """(4, 1, 128, 128) slices of a bright cavity in a dark wall beside an arm, in texture, and their masks."""
    generator = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.arange(128.0), torch.arange(128.0), indexing="ij")
    images, masks = [], []
    for at in range(4):
        radius = torch.hypot(x - 66, y - 62)
        mask = torch.zeros(128, 128, dtype=torch.long)
        mask[torch.hypot(x - 48, 1.2 * (y - 66)) < 15 + at] = 1
        mask[radius < 20 - at] = 2
        mask[radius < 12 - at] = 3
        coarse = torch.rand(1, 1, 14, 14, generator=generator)
        texture = functional.interpolate(coarse, size=(128, 128), mode="bicubic", align_corners=False)[0, 0]
        images.append(torch.tensor([0.35, 0.8, 0.15, 0.9])[mask] + 0.3 * texture)
        masks.append(mask)
    return torch.stack(images)[:, None], torch.stack(masks)


def scan(parts, images, masks, turn=0.0, centre=(63.5, 63.5)):
    place = parts.affine.Place(centre, 1.0, turn)
    heights, phases = np.array([0.25, 0.6, 0.25, 0.6]), np.array([0, 0, 1, 1])
    return parts.patients.Scan(images, masks, heights, phases, place, True)


def turned(images, angle, shift):
    """The content turned clockwise by an angle and moved by (x, y) pixels."""
    cosine, sine = np.cos(angle), np.sin(angle)
    back = torch.tensor([[cosine, sine], [-sine, cosine]])
    matrix = torch.cat([back, -(back @ torch.tensor(shift).double() / 64)[:, None]], dim=1).float()
    places = functional.affine_grid(matrix.expand(len(images), -1, -1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, places, padding_mode="border", align_corners=False)


def test_a_patient_gives_itself_its_own_labels(parts, heart):
    own = scan(parts, *heart)
    found = parts.patients.carried(own, own)
    for stage in parts.patients.STAGES:
        assert parts.command.dice(parts.command.counts(found[stage], found["truth"])).min() > 0.99, stage
    assert found["back"].max() < 0.5
    assert found["least"].min() > 0.9


def test_poses_and_the_affine_map_take_labels_to_a_turned_and_shifted_patient(parts, heart):
    images, masks = heart
    angle, shift = 0.5, (6.0, -4.0)
    hot = turned(functional.one_hot(masks, 4).permute(0, 3, 1, 2).float(), angle, shift)
    target = scan(parts, turned(images, angle, shift), hot.argmax(dim=1), turn=angle, centre=(69.5, 59.5))
    found = parts.patients.carried(target, scan(parts, images, masks))
    assert parts.command.dice(parts.command.counts(found["similarity"], found["truth"])).min() > 0.97
    apart = scan(parts, turned(images, angle, shift), hot.argmax(dim=1), turn=angle - 0.3, centre=(66.5, 61.5))
    found = parts.patients.carried(apart, scan(parts, images, masks))
    stages = (found[stage] for stage in ("similarity", "affine"))
    before, after = (parts.command.dice(parts.command.counts(stage, found["truth"])) for stage in stages)
    assert before.min() < 0.85
    assert after.min() > 0.93


def test_the_search_finds_turn_and_place_of_a_source(parts, heart):
    images, _ = heart
    source = turned(images, np.pi / 2, (10.0, -20.0))
    turn, size, centre = parts.affine.search([(images, source, MIDDLE, torch.eye(2))], MIDDLE, sizes=(1.0, 1.5))
    assert turn == pytest.approx(np.pi / 2)
    assert size == pytest.approx(1.0)
    assert centre.tolist() == pytest.approx([73.5, 43.5])


def test_a_smooth_warp_is_found_to_less_than_a_pixel(parts, heart):
    images, _ = heart
    places = parts.likeness.lattice(MIDDLE)
    x, y = ((places - MIDDLE) / 20).unbind(dim=-1)
    true = 4 * torch.stack([torch.exp(-(x**2) - y**2), -torch.exp(-(x**2) - y**2)], dim=-1)
    every = parts.likeness.lattice(MIDDLE, 1)
    a, b = ((every - MIDDLE) / 20).unbind(dim=-1)
    moved = every + 4 * torch.stack([torch.exp(-(a**2) - b**2), -torch.exp(-(a**2) - b**2)], dim=-1)
    fixed = torch.zeros_like(images)
    fixed[:, :, 20:108, 20:108] = parts.likeness.sampled(images, moved.expand(4, -1, -1, -1))
    field, likeness = parts.splines.deform(fixed, images, places, places, smooth=0.3)
    target, start = (parts.likeness.sampled(each, places.expand(4, -1, -1, -1)) for each in (fixed, images))
    error = (field - true).norm(dim=-1)[:, 8:-8, 8:-8]
    assert error.mean() < 1
    assert (likeness > parts.likeness.Likeness(target)(start) + 0.1).all()


def test_splines_add_up_to_one_and_determinants_are_those_of_a_linear_map(parts):
    basis = parts.splines.splines(44, 5.5)
    torch.testing.assert_close(basis.sum(dim=1), torch.ones(44))
    matrix = torch.tensor([[1.2, 0.3], [-0.1, 0.8]])
    places = parts.likeness.lattice(torch.zeros(2)) @ matrix.T
    least = parts.splines.smallest_determinant(places[None])
    torch.testing.assert_close(least, torch.det(matrix)[None], atol=1e-4, rtol=0)
    mirrored = places * torch.tensor([-1.0, 1.0])
    assert parts.splines.smallest_determinant(mirrored[None]) < 0


def test_the_way_there_and_back_is_measured_in_pixels(parts):
    places = parts.likeness.lattice(torch.zeros(2))[None]
    shift = torch.tensor([3.0, -4.0])
    assert float(parts.splines.back_error(places + shift, places - shift)[0]) == pytest.approx(0, abs=0.05)
    assert float(parts.splines.back_error(places + shift, places)[0]) == pytest.approx(5, abs=0.05)


def test_likeness_does_not_see_brightness_and_sees_inversion(parts, heart):
    middle = parts.likeness.sampled(heart[0], parts.likeness.lattice(MIDDLE).expand(4, -1, -1, -1))
    like = parts.likeness.Likeness(middle)
    same, brighter, inverted = (like(moved) for moved in (middle, 0.8 * middle + 0.1, 1 - middle))
    torch.testing.assert_close(same, brighter, atol=0.05, rtol=0)
    torch.testing.assert_close(same, -inverted, atol=1e-3, rtol=0)
    assert 0.7 < float(same.min()) < 1


def test_dice_counts_what_lies_beyond_the_square(parts):
    truth = torch.zeros(1, 4, 4, dtype=torch.long)
    truth[0, :2] = 3
    whole = torch.zeros(1, 8, 8, dtype=torch.long)
    whole[0, :2] = 3
    counts, dice = parts.command.counts, parts.command.dice
    assert dice(counts(truth, truth)).tolist() == [0.0, 0.0, 1.0]
    assert dice(counts(truth, truth, whole))[2] == pytest.approx(2 * 8 / (8 + 16))


def test_muscle_of_two_phases_and_its_rank(parts):
    masks = np.zeros((2, 10, 10), int)
    masks[0, :5], masks[1, :2] = 2, 2
    assert parts.command.muscle_ratio(masks, np.array([0, 1])) == pytest.approx(np.log(51 / 21))
