"""Further decoders: own weights, the same maps, another way up."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fewlabel.nets.auxiliary_decoders import Branch, LinearDecoder
from fewlabel.nets.unet import UNet, UNetConfig, UNetDecoder

CONFIGS = [UNetConfig(width=4, depth=3), UNetConfig(width=4, depth=3, ndim=3)]


def maps_of(config, sides=8):
    torch.manual_seed(0)
    network = UNet(config, classes=3).double()
    images = torch.randn(2, 1, *[sides] * config.ndim, dtype=torch.float64)
    return network, images, network.encoder(images)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("upsampling", ["transposed", "linear"])
def test_a_branch_gives_logits_at_full_size(config, upsampling):
    _, images, maps = maps_of(config)
    branch = Branch(config, 3, upsampling).double()
    assert branch(maps).shape == (2, 3, *images.shape[2:])
    assert isinstance(branch.decoder, LinearDecoder) == (upsampling == "linear")


@pytest.mark.parametrize("config", CONFIGS)
def test_a_branch_with_the_weights_of_the_network_is_the_network(config):
    network, images, maps = maps_of(config)
    branch = Branch(config, 3).double()
    assert not torch.equal(branch(maps), network(images))
    branch.decoder.load_state_dict(network.decoder.state_dict())
    branch.classifier.load_state_dict(network.classifier.state_dict())
    network.eval()
    branch.eval()
    assert torch.equal(branch(network.encoder(images)), network(images))


@pytest.mark.parametrize("config", CONFIGS)
def test_the_linear_way_up_interpolates_and_narrows(config):
    _, _, maps = maps_of(config)
    up = LinearDecoder(config).double().ups[0]
    mode = "bilinear" if config.ndim == 2 else "trilinear"
    wide = functional.interpolate(maps[-1], scale_factor=2, mode=mode, align_corners=False)
    torch.testing.assert_close(up(maps[-1]), up[0](wide), rtol=1e-11, atol=1e-13)
    assert up(maps[-1]).shape == maps[-2].shape


@pytest.mark.parametrize("config", CONFIGS)
def test_the_linear_decoder_has_no_transposed_convolution(config):
    kinds = {type(module) for module in LinearDecoder(config).modules()}
    assert not kinds & {torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d}
    plain, linear = UNetDecoder(config), LinearDecoder(config)
    assert len(plain.ups) == len(linear.ups) == 2
    assert [m.shape for m in plain.blocks.parameters()] == [m.shape for m in linear.blocks.parameters()]


def test_weights_come_from_the_global_generator():
    config = CONFIGS[0]
    found = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        found.append(Branch(config, 3, "linear").classifier.weight)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
