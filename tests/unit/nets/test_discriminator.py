"""The discriminator: soft maps and images of any size to two logits per slice."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fewlabel.nets.discriminator import Discriminator


def build(ndim=2, images=1, width=4):
    torch.manual_seed(0)
    return Discriminator(3, images, ndim=ndim, width=width).double()


def inputs(*space, rows=2):
    source = torch.Generator().manual_seed(1)
    maps = torch.rand(rows, 3, *space, generator=source, dtype=torch.float64).softmax(dim=1)
    return maps, torch.randn(rows, 1, *space, generator=source, dtype=torch.float64)


def slow(net, maps, images, kept=None):
    """The definition, stage by stage, for maps of at least 16 pixels a side."""
    conv = functional.conv2d if net.ndim == 2 else functional.conv3d
    x = conv(maps, net.map_stem.weight, net.map_stem.bias, stride=2, padding=1)
    if net.image_stem is not None:
        x = x + conv(images, net.image_stem.weight, net.image_stem.bias, stride=2, padding=1)
    first = 0
    for index in range(4):
        if index:
            stage = net.stages[index - 1]
            x = conv(x, stage.weight, stage.bias, stride=2, padding=1)
        x = torch.where(x > 0, x, 0.2 * x)
        if kept is not None:
            for row in range(len(x)):
                for channel in range(x.shape[1]):
                    x[row, channel] = x[row, channel] * kept[row, first + channel]
            first += x.shape[1]
    means = x.flatten(2).sum(dim=2) / x[0, 0].numel()
    return means @ net.classifier.weight.T + net.classifier.bias


@pytest.mark.parametrize(("ndim", "space"), [(2, (32, 48)), (3, (16, 32, 16))])
@pytest.mark.parametrize("images", [0, 1])
def test_logits_are_those_of_the_definition(ndim, space, images):
    net = build(ndim, images)
    maps, pictures = inputs(*space)
    torch.testing.assert_close(net(maps, pictures), slow(net, maps, pictures), rtol=1e-11, atol=1e-13)


def test_widths_double_and_dropout_takes_whole_channels_of_every_stage():
    net = build()
    assert net.widths == (4, 8, 16, 32)
    assert net.channels == 60
    maps, pictures = inputs(16, 16)
    kept = 2.0 * (torch.rand(2, 60, generator=torch.Generator().manual_seed(2)) > 0.5).double()
    found = net(maps, pictures, kept)
    with torch.no_grad():
        torch.testing.assert_close(found, slow(net, maps, pictures, kept), rtol=1e-11, atol=1e-13)
    assert not torch.allclose(found, net(maps, pictures))
    torch.testing.assert_close(net(maps, pictures, torch.ones(2, 60).double()), net(maps, pictures))
    # Nothing is left of a slice whose last stage is dropped, but the bias.
    kept[1, -32:] = 0
    torch.testing.assert_close(net(maps, pictures, kept)[1], net.classifier.bias)


@pytest.mark.parametrize("space", [(16, 16), (40, 24), (96, 112), (256, 256)])
def test_any_size_will_do(space):
    assert build()(*inputs(*space)).shape == (2, 2)


def test_small_images_are_padded_with_zeros_evenly():
    net = build(3)
    maps, pictures = inputs(8, 16, 13)
    # Last axis first: 3 missing, 1 before and 2 after; none; 8 missing.
    pads = (1, 2, 0, 0, 4, 4)
    wide = [functional.pad(tensor, pads) for tensor in (maps, pictures)]
    assert wide[0].shape[2:] == (16, 16, 16)
    torch.testing.assert_close(net(maps, pictures), slow(net, *wide), rtol=1e-11, atol=1e-13)


def test_a_slice_is_judged_alone():
    net = build()
    maps, pictures = inputs(16, 16, rows=3)
    torch.testing.assert_close(net(maps, pictures)[1:2], net(maps[1:2], pictures[1:2]), rtol=1e-11, atol=1e-13)


def test_without_an_image_it_sees_none():
    net = build(images=0)
    maps, pictures = inputs(16, 16)
    assert torch.equal(net(maps, pictures), net(maps, 5 * pictures))
    assert not torch.allclose(build()(maps, pictures), build()(maps, 5 * pictures))


def test_both_parts_of_the_input_matter():
    net = build()
    maps, pictures = inputs(16, 16)
    assert not torch.allclose(net(maps, pictures), net(maps.flip(1), pictures))


@pytest.mark.parametrize(
    "maps",
    [
        torch.zeros(2, 3, 16, 16, dtype=torch.int64),
        torch.zeros(2, 4, 16, 16, dtype=torch.float64),
        torch.zeros(2, 16, 16, dtype=torch.float64),
        torch.zeros(2, 3, 16, 16, 16, dtype=torch.float64),
    ],
)
def test_label_maps_and_other_channels_are_refused(maps):
    with pytest.raises(ValueError, match="takes soft maps"):
        build()(maps, torch.zeros(2, 1, 16, 16, dtype=torch.float64))
