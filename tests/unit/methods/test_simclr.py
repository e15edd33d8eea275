import dataclasses
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.settings.base import resolve_plugin
from fewlabel.nets.projection_heads import PixelHead, pixel_rows
from kit.pretraining import toy_batch, toy_method


def test_loss_is_cross_entropy_to_the_other_view():
    method = toy_method("simclr", dtype=torch.float64).eval()
    batch = toy_batch(dtype=torch.float64)
    losses = method.losses(batch)
    z = losses.embeddings
    logits = (z @ z.T / 0.1).fill_diagonal_(-torch.inf)
    expected = functional.cross_entropy(logits, (torch.arange(16) + 8) % 16)
    assert losses.terms["views"].item() == pytest.approx(expected.item(), abs=1e-12)
    assert losses.collapsed == pytest.approx(math.log(15), abs=1e-12)
    assert losses.lower_bound == 0
    assert losses.scalars == {"image/views": pytest.approx(expected.item(), abs=1e-12)}


def test_embedding_is_the_pooled_and_normalised_map_of_the_head():
    method = toy_method("simclr", centre=False, dtype=torch.float64).eval()
    batch = toy_batch(dtype=torch.float64)
    features = method.encoder(batch.views[0])[-1]
    head = method.image_head
    weight = [head.first.weight[:, :, None, None], head.second.weight[:, :, None, None]]
    mapped = functional.conv2d(
        functional.conv2d(features, weight[0], head.first.bias).relu(), weight[1], head.second.bias
    )
    expected = functional.normalize(mapped.mean((2, 3)), dim=1)
    torch.testing.assert_close(method.losses(batch).embeddings[:8], expected)
    torch.testing.assert_close(method.embed(batch.views[0]), expected)


def test_temperature_and_size_are_settings():
    method = toy_method("simclr", temperature=0.5, dim=32, dtype=torch.float64).eval()
    losses = method.losses(toy_batch(dtype=torch.float64))
    assert losses.embeddings.shape == (16, 32)
    z = losses.embeddings
    logits = (z @ z.T / 0.5).fill_diagonal_(-torch.inf)
    expected = functional.cross_entropy(logits, (torch.arange(16) + 8) % 16)
    assert losses.terms["views"].item() == pytest.approx(expected.item(), abs=1e-12)


def test_defaults_are_those_of_the_specification():
    config = resolve_plugin("fewlabel.methods", "simclr")
    assert (config.temperature, config.dim, config.centre) == (0.1, 128, False)


def test_the_same_slice_twice_is_finite_and_a_positive():
    batch = dataclasses.replace(toy_batch(), slices=torch.zeros(8, dtype=torch.int64))
    losses = toy_method("simclr").eval().losses(batch)
    assert torch.isfinite(losses.terms["views"])
    assert losses.lower_bound == pytest.approx(math.log(15), abs=1e-12)


def test_a_centred_head_has_no_mean_and_unit_variance_over_the_pixels_of_a_batch():
    torch.manual_seed(0)
    head = PixelHead(4, 6, centred=True).train()
    rows = torch.rand(5, 9, 4) + 3
    output = head(rows).output.flatten(0, 1)
    torch.testing.assert_close(output.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
    plain = PixelHead(4, 6)
    plain.load_state_dict(head.state_dict(), strict=False)
    raw = plain(rows).output.flatten(0, 1)
    expected = (raw - raw.mean(0)) / (raw.var(0, unbiased=False) + head.norm.eps).sqrt()
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(rows).output.dtype == torch.float32
    assert head.double()(rows.double()).output.dtype == torch.float64
    assert not list(head.norm.parameters())


def test_a_head_serves_maps_of_two_and_three_axes():
    torch.manual_seed(0)
    head = PixelHead(4, 6)
    volume = torch.randn(2, 4, 3, 5, 2)
    found = head(pixel_rows(volume)).output
    assert found.shape == (2, 30, 6)
    torch.testing.assert_close(found[1, 1 * 10 + 2 * 2 + 1], head(volume[1, :, 1, 2, 1]).output)
    assert (head(pixel_rows(volume)).hidden >= 0).all()
