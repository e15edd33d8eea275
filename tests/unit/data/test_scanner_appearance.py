"""Appearance: closed forms, limits and shares of draws, rows that do not depend on their batch, and what is off."""

from __future__ import annotations

import math
from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch.nn import functional

from fewlabel.data.augment import Augmenter
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.intensity_changes import apply_blur, apply_contrast, apply_gamma, apply_noise, standardise
from fewlabel.data.random_convolutions import random_convolutions
from fewlabel.data.scanner_appearance import (
    Appearance,
    apply_bias,
    apply_gain_and_shift,
    apply_inverted_gamma,
    apply_low_resolution,
)

SIZE = (24, 28)
#: Each by itself switches the draw on.
PARTS = {
    "low_resolution": {"low_resolution": 3.0, "low_resolution_probability": 0.6},
    "inverted_gamma": {"inverted_gamma": 1.7, "inverted_gamma_probability": 0.6},
    "bias": {"bias": 0.3},
    "random_convolutions": {"random_convolutions_probability": 0.6},
    "gain": {"gain": 1.5},
    "shift": {"shift": 0.3},
}
EVERYTHING = {key: value for part in PARTS.values() for key, value in part.items()}
#: Sums over entries times their places, of three rows of a narrow geometry.
GOLDEN = {
    "matrices": 91.494773224, "control": -440.445872017, "contrast": 6.538031816, "brightness": -0.161209717,
    "gamma": 5.685001552, "blur": 2.257289886,
}  # fmt: skip
#: No geometry and no noise.
STILL = {
    "flip_horizontal": 0.0, "flip_vertical": 0.0, "rotation": 0.0, "scale_low": 1.0, "scale_high": 1.0, "crop": 1.0,
    "translation": 0.0, "elastic_probability": 0.0, "noise_probability": 0.0,
}  # fmt: skip
#: Nor what was there before.
ALONE = STILL | {
    "brightness": 0.0, "contrast_low": 1.0, "contrast_high": 1.0, "gamma_probability": 0.0, "blur_probability": 0.0
}  # fmt: skip


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def images(count=4, channels=1, size=SIZE, seed=0):
    return torch.rand(count, channels, *size, generator=stream(seed))


def sample(count=4000, seed=0, **settings):
    return Appearance.sample(AugmentConfig(**settings), count, stream(seed))


def views(augmenter, given, transform):
    return augmenter.finish(augmenter.apply(given.clone(), transform)[0], transform)


class TestOff:
    def test_in_pretraining_there_is_none_and_nothing_is_drawn(self):
        config, generator = AugmentConfig(), stream()
        assert Appearance.sample(config, 5, generator) is None
        assert torch.equal(generator.get_state(), stream().get_state())
        transform = Augmenter(config).sample(5, SIZE, generator)
        assert transform.appearance is None
        given = images(5, 2)
        augmenter = Augmenter(config)
        applied, _ = augmenter.apply(given.clone(), transform)
        assert torch.equal(augmenter.finish(applied.clone(), transform), standardise(applied))

    def test_limits_without_a_probability_and_the_reverse_draw_nothing_or_change_nothing(self):
        assert sample(3, low_resolution=4.0, inverted_gamma=2.0) is None
        given = images(3)
        found = sample(3, low_resolution_probability=1.0, inverted_gamma_probability=1.0)
        before = found.before_standardisation(given.clone())
        assert torch.equal(before, given)
        assert torch.equal(found.after_standardisation(given.clone()), given)

    @pytest.mark.parametrize("part", PARTS)
    def test_each_part_alone_switches_it_on_and_leaves_all_older_draws_as_they_were(self, part):
        plain = Augmenter(AugmentConfig()).sample(6, SIZE, stream(2))
        found = Augmenter(AugmentConfig(**PARTS[part])).sample(6, SIZE, stream(2))
        assert found.appearance is not None
        for item in fields(plain):
            if isinstance(getattr(plain, item.name), torch.Tensor):
                assert torch.equal(getattr(found, item.name), getattr(plain, item.name)), item.name

    def test_what_was_drawn_before_there_was_appearance_is_drawn_still(self):
        narrow = {"flip_horizontal": 0.0, "flip_vertical": 0.0, "rotation": 20.0, "scale_low": 0.8, "scale_high": 1.25}
        narrow |= {"crop": 1.0, "translation": 0.05, "elastic_probability": 0.5, "elastic": 0.2}
        found = Augmenter(AugmentConfig(**narrow, **EVERYTHING)).sample(3, (32, 40), stream(11))
        for name, expected in GOLDEN.items():
            value = getattr(found, name).double()
            assert float((value.flatten() * torch.arange(1, value.numel() + 1)).sum()) == pytest.approx(
                expected, rel=1e-5
            )

    @pytest.mark.parametrize("part", PARTS)
    def test_a_part_that_is_off_has_no_effect(self, part):
        others = {key: value for name, values in PARTS.items() if name != part for key, value in values.items()}
        found = sample(50, **others)
        nothing = {"low_resolution": 1, "inverted_gamma": 1, "bias": 0, "random_convolutions": 0, "gain": 1, "shift": 0}
        name = "convolution_seeds" if part == "random_convolutions" else part
        assert bool((getattr(found, name) == nothing[part]).all())
        # And the others are those that they are beside it.
        for item in fields(found):
            if item.name != name:
                assert torch.equal(getattr(found, item.name), getattr(sample(50, **EVERYTHING), item.name))


class TestDraws:
    def test_factors_keep_their_limits_and_shares_and_are_uniform_in_the_logarithm(self):
        found = sample(**EVERYTHING)
        for values, limit, both in (
            (found.low_resolution, 3.0, False), (found.inverted_gamma, 1.7, True), (found.gain, 1.5, True)
        ):  # fmt: skip
            drawn = values[values != 1].double().log() / math.log(limit)
            low = -1.0 if both else 0.0
            assert low <= float(drawn.min()) < low + 0.01
            assert 0.99 < float(drawn.max()) <= 1 + 1e-6
            place = ((drawn - low) / (1 - low)).sort().values
            assert float((place - torch.linspace(0, 1, len(place))).abs().max()) < 2.23 / math.sqrt(len(place))
            share = 1.0 if values is found.gain else 0.6
            assert len(drawn) / len(values) == pytest.approx(share, abs=0.04)

    def test_shifts_and_control_points_are_normal(self):
        found = sample(**EVERYTHING)
        assert float(found.shift.mean()) == pytest.approx(0, abs=0.025)
        assert float(found.shift.std()) == pytest.approx(0.3, rel=0.05)
        assert found.bias.shape == (4000, 4, 4)
        assert float(found.bias.std()) == pytest.approx(0.6, rel=0.02)
        assert float(torch.corrcoef(found.bias.flatten(1).t()).fill_diagonal_(0).abs().max()) < 0.08

    def test_seeds_are_of_their_own_and_as_many_as_wanted(self):
        seeds = sample(**EVERYTHING).convolution_seeds
        assert seeds.dtype == torch.int64
        kept = seeds[seeds != 0]
        assert len(kept) / 4000 == pytest.approx(0.6, abs=0.04)
        assert len(kept.unique()) == len(kept)
        # Uniform up to 2^53, whatever decided that there is one.
        place = (kept.double() / 2**53).sort().values
        assert float(place[0]) > 0
        assert float((place - torch.linspace(0, 1, len(place))).abs().max()) < 2.23 / math.sqrt(len(place))

    def test_parts_are_drawn_apart(self):
        found = sample(**EVERYTHING)
        columns = [
            found.low_resolution,
            found.inverted_gamma.log(),
            found.convolution_seeds != 0,
            found.gain,
            found.shift,
        ]
        columns += [found.low_resolution != 1, found.inverted_gamma != 1]
        table = torch.corrcoef(torch.stack([column.double() for column in columns]))
        related = {(0, 5)}
        for i in range(len(columns)):
            for j in range(i):
                assert (j, i) in related or abs(float(table[i, j])) < 0.08, (i, j)

    def test_rows_are_those_of_the_whole(self):
        found = sample(8, **EVERYTHING)
        for item in fields(found):
            whole = getattr(found, item.name)
            assert torch.equal(torch.cat([getattr(found[:3], item.name), getattr(found[3:], item.name)]), whole)
            assert torch.equal(getattr(found[torch.tensor([5, 1])], item.name), whole[[5, 1]])


class TestClosedForms:
    def test_gamma_of_the_negative(self):
        given = images(3, 2)
        given[1, 0, 0, :2] = torch.tensor([0.0, 1.0])
        found = apply_inverted_gamma(given.clone(), torch.tensor([1.0, 1.7, 0.6]))
        assert torch.equal(found[0], given[0])
        torch.testing.assert_close(found[1], 1 - (1 - given[1]) ** 1.7)
        torch.testing.assert_close(found[2], 1 - (1 - given[2]) ** 0.6)
        assert found[1, 0, 0, :2].tolist() == [0.0, 1.0]
        # It brightens above 1 and darkens below, as gamma does the other way round.
        assert bool((found[1] >= given[1]).all())
        assert bool((found[2] <= given[2]).all())
        # What is cut off by a rounding error is cut to the range.
        assert float(apply_inverted_gamma(torch.full((1, 1, 1, 1), 1.0001), torch.tensor([0.5]))) == 1.0

    def test_gamma_of_the_negative_keeps_the_order_of_pixels(self):
        given = torch.rand(40, generator=stream()).sort().values.view(1, 1, 5, 8).repeat(2, 1, 1, 1)
        found = apply_inverted_gamma(given, torch.tensor([3.0, 0.3])).flatten(1)
        assert bool((found.diff(dim=1) > 0).all())

    def test_bias_is_a_spline_of_its_control_points(self):
        control = torch.randn(3, 4, 4, generator=stream(3))
        given = images(3, 2)
        down, across = (
            BSpline.design_matrix((np.arange(side) + 0.5) / side, np.arange(-3.0, 5.0), 3).toarray() for side in SIZE
        )
        field = np.exp(np.einsum("yi,nij,xj->nyx", down, control.double().numpy(), across))
        expected = given.double().numpy() * field[:, None]
        np.testing.assert_allclose(apply_bias(given.clone(), control).numpy(), expected, rtol=1e-5)

    def test_equal_control_points_are_a_gain_and_none_is_nothing(self):
        given = images(2)
        found = apply_bias(given.clone(), torch.full((2, 4, 4), math.log(1.3)))
        torch.testing.assert_close(found, 1.3 * given)
        assert torch.equal(apply_bias(given.clone(), torch.zeros(2, 4, 4)), given)

    def test_the_logarithm_of_the_bias_has_the_deviation_that_is_set(self):
        control = sample(2000, bias=0.3).bias
        field = apply_bias(torch.ones(2000, 1, 16, 16), control).log()
        assert float(field.std()) == pytest.approx(0.3, rel=0.06)
        assert float(field.mean()) == pytest.approx(0, abs=0.02)
        # About half of it differs within a slice and outlives the standardisation; the rest is a gain.
        inside = field.flatten(1).std(dim=1).square().mean().sqrt()
        assert float(inside) == pytest.approx(0.47 * 0.3, rel=0.06)

    @pytest.mark.parametrize("size", [SIZE, (33, 20)])
    def test_low_resolution_equals_two_interpolations_of_each_row(self, size):
        given = images(4, 2, size)
        factors = torch.tensor([1.0, 2.0, 3.1, 40.0])
        found = apply_low_resolution(given.clone(), factors)
        assert torch.equal(found[0], given[0])
        for row in (1, 2, 3):
            coarse = [max(1, round(side / float(factors[row]))) for side in size]
            small = functional.interpolate(given[row][None], coarse, mode="area")
            expected = functional.interpolate(small, size, mode="bilinear", align_corners=False)[0]
            torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-6)
        # A pixel that is as large as the slice holds its mean.
        mean = given[3].mean(dim=(1, 2), keepdim=True).expand(-1, *size)
        torch.testing.assert_close(found[3], mean, rtol=0, atol=1e-5)

    def test_low_resolution_keeps_what_is_flat_and_smooths_what_is_not(self):
        flat = torch.full((1, 1, *SIZE), 0.4)
        torch.testing.assert_close(apply_low_resolution(flat.clone(), torch.tensor([2.5])), flat)
        given = images(1)
        deviations = [float(apply_low_resolution(given.clone(), torch.tensor([f])).std()) for f in (1.0, 2.0, 4.0)]
        assert deviations == sorted(deviations, reverse=True)
        assert deviations[-1] < 0.5 * deviations[0]

    def test_gain_and_shift(self):
        given = images(3, 2)
        gain, shift = torch.tensor([1.0, 1.4, 0.7]), torch.tensor([0.0, -0.2, 0.3])
        found = apply_gain_and_shift(given.clone(), gain, shift)
        for row in range(3):
            torch.testing.assert_close(found[row], gain[row] * given[row] + shift[row])
        same, none = torch.ones(3), torch.zeros(3)
        assert torch.equal(apply_gain_and_shift(given.clone(), same, none), given)
        torch.testing.assert_close(apply_gain_and_shift(given.clone(), same, shift)[1], given[1] - 0.2)
        torch.testing.assert_close(apply_gain_and_shift(given.clone(), gain, none)[2], 0.7 * given[2])


class TestOrder:
    def test_parts_follow_each_other(self):
        found = sample(6, **EVERYTHING)
        given = images(6, 2)
        expected = apply_low_resolution(given.clone(), found.low_resolution)
        expected = apply_bias(apply_inverted_gamma(expected, found.inverted_gamma), found.bias)
        assert torch.equal(found.before_standardisation(given.clone()), expected)
        expected = random_convolutions(given.clone(), found.convolution_seeds)
        expected = apply_gain_and_shift(expected, found.gain, found.shift)
        assert torch.equal(found.after_standardisation(given.clone()), expected)

    def test_they_lie_between_gamma_and_contrast_and_behind_the_standardisation(self):
        config = AugmentConfig(
            **EVERYTHING | {"gamma_probability": 1.0, "blur_probability": 1.0, "noise_probability": 1.0}
        )
        augmenter = Augmenter(config)
        transform = augmenter.sample(6, SIZE, stream(4))
        given = images(6)
        grid = transform.grid("cpu")
        expected = functional.grid_sample(given, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        expected = apply_gamma(apply_blur(expected, transform.blur), transform.gamma)
        expected = transform.appearance.before_standardisation(expected)
        expected = apply_contrast(expected, transform.contrast, transform.brightness)
        expected = apply_noise(expected, transform.noise, transform.noise_seeds)
        found, _ = augmenter.apply(given.clone(), transform)
        assert torch.equal(found, expected)
        last = transform.appearance.after_standardisation(standardise(expected))
        assert torch.equal(augmenter.finish(found, transform), last)


class TestRows:
    @pytest.mark.parametrize("channels", [1, 2])
    def test_a_row_looks_the_same_on_whichever_rank_it_lies(self, channels):
        augmenter = Augmenter(AugmentConfig(**EVERYTHING))
        transform = augmenter.sample(8, SIZE, stream(5))
        given = images(8, channels)
        whole = views(augmenter, given, transform)
        for parts in ((slice(0, 4), slice(4, 8)), tuple(slice(k, k + 1) for k in range(8))):
            found = torch.cat([views(augmenter, given[rows], transform[rows]) for rows in parts])
            assert torch.equal(found, whole)

    def test_same_stream_same_views_and_every_row_its_own(self):
        augmenter = Augmenter(AugmentConfig(**ALONE | EVERYTHING))
        given = images(1).expand(6, -1, -1, -1)
        first, second, other = (views(augmenter, given, augmenter.sample(6, SIZE, stream(s))) for s in (1, 1, 2))
        assert torch.equal(first, second)
        assert not torch.equal(first, other)
        assert len({round(float(view.abs().sum()), 3) for view in first}) == 6

    def test_masks_and_the_source_do_not_notice(self):
        augmenter = Augmenter(AugmentConfig(**EVERYTHING))
        transform = augmenter.sample(4, SIZE, stream(6))
        given, masks = images(4), torch.randint(0, 4, (4, *SIZE), generator=stream())
        copy = given.clone()
        _, found = augmenter.apply(given, transform, masks)
        _, expected = augmenter.apply(given, transform.geometry(), masks)
        assert torch.equal(found, expected)
        assert torch.equal(given, copy)


class TestGeometry:
    def test_it_keeps_geometry_and_switches_off_every_intensity(self):
        config = AugmentConfig(
            **EVERYTHING | {"gamma_probability": 1.0, "blur_probability": 1.0, "noise_probability": 1.0}
        )
        drawn = Augmenter(config).sample(6, SIZE, stream(7))
        found = drawn.geometry()
        assert torch.equal(found.matrices, drawn.matrices)
        assert torch.equal(found.control, drawn.control)
        assert found.appearance is None
        augmenter = Augmenter(AugmentConfig())
        given = torch.rand(6, 2, *SIZE, generator=stream())
        expected = functional.grid_sample(
            given, drawn.grid("cpu"), mode="bilinear", padding_mode="zeros", align_corners=False
        )
        applied, _ = augmenter.apply(given.clone(), found)
        assert torch.equal(applied, expected)
        assert torch.equal(augmenter.finish(applied, found), standardise(expected))
        assert len(found[1:3]) == 2
        assert found[1:3].appearance is None
