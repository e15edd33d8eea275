import math

import pytest
import torch
from torch.nn import functional

from fewlabel.nets.projection_heads import FlattenHead, PixelHead, PooledHead, RegionHead, pixel_rows
from fewlabel.objectives.local_regions import lattice, window_pixels


def doubles(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("hidden", "bias"), [(None, True), (7, True), (7, False)])
def test_a_pixel_head_is_two_layers_with_a_relu_for_each_pixel(hidden, bias):
    torch.manual_seed(0)
    head = PixelHead(4, 6, hidden=hidden, bias=bias).double()
    rows = doubles(3, 5, 4)
    found = head(rows)
    first, second = head.first, head.second
    assert (first.bias is None, second.bias is None) == (not bias, not bias)
    for image in range(3):
        for pixel in range(5):
            inner = first.weight @ rows[image, pixel] + (first.bias if bias else 0)
            outer = second.weight @ inner.clamp_min(0) + (second.bias if bias else 0)
            torch.testing.assert_close(found.hidden[image, pixel], inner.clamp_min(0))
            torch.testing.assert_close(found.output[image, pixel], outer)
    assert found.hidden.shape == (3, 5, hidden or 4)


@pytest.mark.parametrize("head", [PixelHead(4, 6, centred=True), PooledHead(4, 6, centred=True)])
def test_a_bias_before_a_normalisation_is_left_out(head):
    assert head.second.bias is None
    assert head.first.bias is not None
    assert PooledHead(4, 6).second.bias is not None


def test_a_pooled_head_sees_the_mean_of_the_map():
    torch.manual_seed(0)
    head, rows = PooledHead(4, 6).double(), doubles(3, 5, 4)
    found = head(rows)
    pixel = PixelHead(4, 6).double()
    pixel.load_state_dict(head.state_dict())
    torch.testing.assert_close(found.output[:, 0], pixel(rows.mean(dim=1)).output)
    assert (found.hidden.shape, found.output.shape) == ((3, 1, 4), (3, 1, 6))
    # Where things are makes no difference, but it is not the mean of what each pixel gives.
    torch.testing.assert_close(head(rows[:, [3, 1, 4, 0, 2]]).output, found.output)
    assert not torch.allclose(pixel(rows).output.mean(dim=1), found.output[:, 0])


def means(image, cells):
    """A map averaged by a loop to (rows, columns): each over all pixels that its share of the side touches."""

    def window(index, side, count):
        return slice(math.floor(index * side / count), math.ceil((index + 1) * side / count))

    height, width = image.shape[1:]
    rows = [
        torch.stack(
            [
                image[:, window(row, height, cells[0]), window(column, width, cells[1])].flatten(1).mean(dim=1)
                for column in range(cells[1])
            ],
            dim=1,
        )
        for row in range(cells[0])
    ]
    return torch.stack(rows, dim=1)


@pytest.mark.parametrize(
    ("size", "cells"),
    [
        ((6, 6), (6, 6)),
        ((4, 6), (4, 6)),
        ((8, 8), (6, 6)),
        ((12, 12), (6, 6)),
        ((7, 13), (6, 6)),
        ((16, 5), (6, 5)),
    ],
)
def test_a_flatten_head_is_two_layers_without_bias_on_a_map_of_at_most_six_by_six(size, cells):
    torch.manual_seed(0)
    head = FlattenHead(3, 5, size, hidden=11).double()
    assert head.first.weight.shape == (11, 3 * cells[0] * cells[1])
    assert [name for name, _ in head.named_parameters()] == ["first.weight", "second.weight"]
    image = doubles(2, 3, *size)
    found = head(pixel_rows(image))
    flat = torch.stack([means(one, cells).flatten() for one in image])
    hidden = functional.linear(flat, head.first.weight).relu()
    torch.testing.assert_close(found.hidden[:, 0], hidden)
    torch.testing.assert_close(found.output[:, 0], hidden @ head.second.weight.T)
    assert found.output.shape == (2, 1, 5)


def test_a_flatten_head_knows_where_things_are():
    torch.manual_seed(0)
    head, image = FlattenHead(3, 5, (4, 6)).double(), doubles(2, 3, 4, 6)
    assert head.first.weight.shape[0] == 1024
    found = [head(pixel_rows(one)).output for one in (image, image.flip(3), image.flip(2))]
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_a_centred_head_of_one_row_per_image_has_no_mean_over_the_batch():
    torch.manual_seed(0)
    head = PooledHead(4, 6, centred=True).train()
    rows = torch.rand(5, 9, 4, generator=torch.Generator().manual_seed(0)) + 3
    output = head(rows).output
    assert output.shape == (5, 1, 6)
    torch.testing.assert_close(output.mean(dim=0), torch.zeros(1, 6), rtol=0, atol=1e-5)
    raw = head.second(head(rows).hidden)
    expected = (raw - raw.mean(0)) / (raw.var(0, unbiased=False) + head.norm.eps).sqrt()
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(rows).output.dtype == torch.float32


def region_head(size=(9, 11), channels=4, window=3):
    torch.manual_seed(0)
    pixels = window_pixels(lattice(2, size, window), window, size[1])
    return RegionHead(channels, 6, pixels).double(), lattice(2, size, window).tolist()


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("window", [1, 3])
def test_a_region_head_is_convolutions_of_the_map_then_one_layer_on_each_window(train, window):
    head, centres = region_head(window=window)
    first, norm, _, second = head.convolutions
    with torch.no_grad():
        norm.running_mean.copy_(doubles(4))
        norm.weight.copy_(doubles(4, seed=1))
    features = doubles(3, 4, 9, 11)
    inner = functional.conv2d(features, first.weight)
    mean, variance = norm.running_mean.clone(), norm.running_var.clone()
    if train:
        mean, variance = inner.mean((0, 2, 3)), inner.var((0, 2, 3), unbiased=False)
    scale = norm.weight / (variance + norm.eps).sqrt()
    inner = (inner - mean.view(1, -1, 1, 1)) * scale.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    projected = functional.conv2d(inner.relu(), second.weight, second.bias)
    found = head.train(train)(features)
    assert found.shape == (3, 5, 6)
    half = window // 2
    for image in range(3):
        for region, (row, column) in enumerate(centres):
            part = projected[image, :, row - half : row + half + 1, column - half : column + half + 1]
            # Pixel by pixel, each with all its channels.
            expected = head.dense.weight @ part.permute(1, 2, 0).flatten()
            torch.testing.assert_close(found[image, region], expected)


def test_a_region_is_embedded_from_its_own_pixels():
    head, centres = region_head()
    # No ReLU is shut, so that every pixel of a window counts.
    torch.nn.init.constant_(head.convolutions[1].bias, 9)
    features = doubles(2, 4, 9, 11).requires_grad_()
    for region, (row, column) in enumerate(centres):
        (gradient,) = torch.autograd.grad(head.eval()(features)[1, region].sum(), features)
        reached = gradient.abs().sum(dim=1)
        assert reached[1, row - 1 : row + 2, column - 1 : column + 2].min() > 0
        reached[1, row - 1 : row + 2, column - 1 : column + 2] = 0
        assert reached.sum() == 0


def test_places_of_regions_are_no_weights():
    head, _ = region_head()
    assert "pixels" not in head.state_dict()
    assert head.convolutions[0].bias is None
    assert head.dense.bias is None


def test_rows_of_a_channels_last_map_are_a_view_in_reading_order():
    features = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5).contiguous(memory_format=torch.channels_last)
    rows = pixel_rows(features)
    assert rows.shape == (2, 20, 3)
    assert rows.data_ptr() == features.data_ptr()
    assert rows.is_contiguous()
    assert torch.equal(rows[1, 2 * 5 + 3], features[1, :, 2, 3])
    volume = torch.arange(2 * 3 * 2 * 4 * 5.0).view(2, 3, 2, 4, 5)
    assert torch.equal(pixel_rows(volume)[1, (1 * 4 + 2) * 5 + 3], volume[1, :, 1, 2, 3])
