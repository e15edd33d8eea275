"""Random convolutions: a loop over pixels in float64, what they keep, and rows that do not depend on their batch."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.data import random_convolutions as module
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.random_convolutions import INNER, LAYERS, random_convolutions


def stream(seed=0):
    return torch.Generator().manual_seed(seed)


def slices(count=4, channels=1, size=(20, 24), seed=0):
    """Smooth standardised slices."""
    coarse = torch.rand(count, channels, 5, 6, generator=stream(seed))
    return standardise(functional.interpolate(coarse, size, mode="bicubic", align_corners=True))


def seeds(*values):
    return torch.tensor(values, dtype=torch.int64)


def correlation(first, second):
    """Of each slice and channel with its own."""
    one, two = ((part - part.mean(dim=(2, 3), keepdim=True)).flatten(2).double() for part in (first, second))
    return (one * two).sum(2) / (one.norm(dim=2) * two.norm(dim=2))


def drawn_with(monkeypatch, share=None, kernels=None):
    """Draws as they are, but for the share of the convolutions and the weights of every layer."""
    original = module._draw

    def draw(seed):
        alpha, layers = original(seed)
        if kernels is not None:
            layers = [(kernels(weight), bias) for weight, bias in layers]
        return (alpha if share is None else share), layers

    monkeypatch.setattr(module, "_draw", draw)


def centre(weight):
    """Width 1: the centre of 3 by 3."""
    return functional.pad(weight[:, :, 1:2, 1:2] + 0.1, (1, 1, 1, 1))


def slow(image, seed):
    """One channel (height, width), pixel by pixel in float64."""
    alpha, layers = module._draw(seed)
    x = image.double()
    height, width = x.shape
    maps = [x]
    for number, (weight, bias) in enumerate(layers):
        found = [torch.zeros_like(x) for _ in range(len(weight))]
        for out, i, j in itertools.product(range(len(weight)), range(height), range(width)):
            value = float(bias[out])
            for into, di, dj in itertools.product(range(len(maps)), (-1, 0, 1), (-1, 0, 1)):
                near = min(max(i + di, 0), height - 1), min(max(j + dj, 0), width - 1)
                value += float(weight[out, into, di + 1, dj + 1]) * float(maps[into][near])
            found[out][i, j] = value if number == 3 or value > 0 else 0.01 * value
        maps = found
    y = (maps[0] - maps[0].mean()) / maps[0].std()
    unit = (x - x.mean()) / x.std()
    y = y if float((y * unit).sum()) >= 0 else -y
    mixed = alpha * (y * x.std() + x.mean()) + (1 - alpha) * x
    return (mixed - mixed.mean()) / mixed.std() * x.std() + x.mean()


@pytest.mark.parametrize("seed", [4, 7, 18, 24])
def test_a_row_equals_a_loop_over_its_pixels(seed):
    image = slices(1, size=(7, 9)) * 1.3 + 0.2
    found = random_convolutions(image.clone(), seeds(seed))
    assert not torch.allclose(found, image, atol=0.01)
    torch.testing.assert_close(found[0, 0].double(), slow(image[0, 0], seed), rtol=1e-4, atol=1e-4)


def test_there_are_four_layers_of_two_channels_and_widths_of_one_and_three():
    widths = []
    for seed in range(1, 200):
        alpha, layers = module._draw(seed)
        assert 0 <= alpha < 1
        assert [tuple(weight.shape) for weight, _ in layers] == [(2, 1, 3, 3), (2, 2, 3, 3), (2, 2, 3, 3), (1, 2, 3, 3)]
        assert [len(bias) for _, bias in layers] == [2, 2, 2, 1]
        for weight, _ in layers:
            around = weight.clone()
            around[:, :, 1, 1] = 0
            widths.append(3 if bool(around.any()) else 1)
            assert bool((weight[:, :, 1, 1] != 0).all())
    assert (LAYERS, INNER) == (4, 2)
    # Each width in half of the layers.
    assert abs(widths.count(1) / len(widths) - 0.5) < 5 * math.sqrt(0.25 / len(widths))


def test_weights_biases_and_shares_have_their_distributions():
    drawn = [module._draw(seed) for seed in range(1, 600)]
    centres = torch.cat([weight[:, :, 1, 1].flatten() for _, layers in drawn for weight, _ in layers])
    biases = torch.cat([bias for _, layers in drawn for _, bias in layers])
    for values in (centres, biases):
        assert abs(float(values.mean())) < 0.06
        assert float(values.std()) == pytest.approx(1, abs=0.05)
    shares = torch.tensor([alpha for alpha, _ in drawn]).sort().values
    # Kolmogorov-Smirnov at 1e-4.
    assert float((shares - torch.linspace(0, 1, len(shares))).abs().max()) < 2.23 / math.sqrt(len(shares))


def test_without_a_seed_a_row_stays_as_it_is():
    images = slices(4, channels=2)
    found = random_convolutions(images.clone(), seeds(0, 9, 0, 4))
    assert torch.equal(found[[0, 2]], images[[0, 2]])
    assert all(not torch.allclose(found[row], images[row], atol=0.01) for row in (1, 3))
    assert torch.equal(random_convolutions(images.clone(), seeds(0, 0, 0, 0)), images)


def test_a_share_of_0_changes_nothing_and_one_of_1_leaves_nothing_of_the_slice(monkeypatch):
    images, numbers = slices(6), seeds(*range(1, 7))
    drawn_with(monkeypatch, share=0.0)
    torch.testing.assert_close(random_convolutions(images.clone(), numbers), images, rtol=0, atol=1e-5)
    drawn_with(monkeypatch, share=1.0)
    whole = random_convolutions(images.clone(), numbers)
    drawn_with(monkeypatch, share=0.5)
    half = random_convolutions(images.clone(), numbers)
    # Both have the deviation of the slice, so the half lies along their sum.
    torch.testing.assert_close(correlation(half, whole + images), torch.ones(6, 1).double(), rtol=0, atol=1e-6)


def test_width_1_commutes_with_any_order_of_the_pixels(monkeypatch):
    drawn_with(monkeypatch, kernels=centre)
    images, numbers = slices(5, channels=2), seeds(*range(3, 8))
    order = torch.randperm(20 * 24, generator=stream(3))

    def shuffled(maps):
        return maps.flatten(2)[:, :, order].view_as(maps)

    found, other = random_convolutions(images.clone(), numbers), random_convolutions(shuffled(images), numbers)
    torch.testing.assert_close(other, shuffled(found), rtol=0, atol=2e-4)
    monkeypatch.undo()
    # Width 3 does not.
    assert not torch.allclose(
        random_convolutions(shuffled(images), numbers), shuffled(random_convolutions(images.clone(), numbers)), atol=0.1
    )


def test_mean_and_deviation_are_those_of_the_slice():
    images = slices(40, channels=2) * torch.linspace(0.5, 3, 40)[:, None, None, None] - 0.4
    found = random_convolutions(images.clone(), torch.arange(1, 41))
    torch.testing.assert_close(found.mean(dim=(2, 3)), images.mean(dim=(2, 3)), rtol=0, atol=1e-4)
    torch.testing.assert_close(found.std(dim=(2, 3)), images.std(dim=(2, 3)), rtol=1e-3, atol=0)


def test_nothing_is_opposed_to_the_slice(monkeypatch):
    images = slices(1).expand(300, -1, -1, -1).clone()
    numbers = torch.arange(1, 301)
    drawn_with(monkeypatch, share=1.0)
    found = correlation(random_convolutions(images.clone(), numbers), images)
    assert float(found.min()) > -1e-5
    # Some of it is far from the slice all the same.
    assert float(found.min()) < 0.6
    assert float((found > 0.999).double().mean()) < 0.9
    # Left alone, every other one would be.
    raw = torch.cat(
        [correlation(module._convolved(images[0], module._draw(int(n))[1])[None], images[:1]) for n in numbers]
    )
    assert 0.3 < float((raw < 0).double().mean()) < 0.7
    torch.testing.assert_close(raw.abs(), found, rtol=0, atol=0.02)


@pytest.mark.parametrize("level", [0.0, 0.7, -3.0])
def test_a_constant_slice_stays_constant_and_finite(level):
    images = torch.full((30, 2, 12, 12), level)
    images[:, 1] = slices(30, size=(12, 12))[:, 0]
    found = random_convolutions(images.clone(), torch.arange(1, 31))
    assert bool(torch.isfinite(found).all())
    torch.testing.assert_close(found[:, 0], images[:, 0], rtol=0, atol=1e-5)


def test_channels_share_the_convolutions():
    image = slices(1)
    both = random_convolutions(torch.cat([image, image, slices(1, seed=5)], dim=1), seeds(8))
    assert torch.equal(both[:, 0], both[:, 1])
    torch.testing.assert_close(both[:, :1], random_convolutions(image.clone(), seeds(8)), rtol=0, atol=1e-4)
    assert not torch.allclose(both[:, 0], both[:, 2], atol=0.1)


def test_channels_keep_the_sign_that_they_have_to_each_other(monkeypatch):
    """As slices of a patch: what is bright in one is not made dark in the next."""
    image = slices(1)
    # One slice at two levels: a function that falls and rises again is opposed to one of them alone.
    images = torch.cat([image + 2, image - 2], dim=1).expand(200, -1, -1, -1).clone()
    numbers = torch.arange(1, 201)
    drawn_with(monkeypatch, share=1.0)
    found = random_convolutions(images.clone(), numbers)
    raw = torch.stack([module._convolved(row, module._draw(int(n))[1]) for row, n in zip(images, numbers, strict=True)])
    own = correlation(raw, images)
    apart = own[:, 0] * own[:, 1] < 0
    assert int(apart.sum()) > 10
    together = correlation(raw[:, :1], raw[:, 1:])
    torch.testing.assert_close(correlation(found[:, :1], found[:, 1:]), together, rtol=0, atol=0.02)
    # The sign of a row is that of all its channels together.
    centred = [part - part.mean(dim=(2, 3), keepdim=True) for part in (raw.double(), images.double())]
    sign = (centred[0] * centred[1]).sum(dim=(1, 2, 3)).sign()
    assert 50 < int((sign < 0).sum()) < 150
    torch.testing.assert_close(correlation(found, raw), sign[:, None].expand(-1, 2), rtol=0, atol=0.02)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_row_does_not_depend_on_the_others(channels):
    images, numbers = slices(6, channels=channels), seeds(4, 0, 7, 9, 2, 30)
    whole = random_convolutions(images.clone(), numbers)
    for parts in ((slice(0, 3), slice(3, 6)), (slice(0, 1), slice(1, 6)), tuple(slice(k, k + 1) for k in range(6))):
        found = torch.cat([random_convolutions(images[rows].clone(), numbers[rows]) for rows in parts])
        assert torch.equal(found, whole)
    assert torch.equal(random_convolutions(images.flip(0), numbers.flip(0)).flip(0), whole)


def test_it_works_in_place_and_in_any_layout():
    images = slices(3, channels=2)
    given = images.clone()
    found = random_convolutions(given, seeds(1, 0, 2))
    assert found is given
    last = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(random_convolutions(last, seeds(1, 0, 2)), found)
