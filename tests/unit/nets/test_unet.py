"""The U-Net: shapes, parts, and what GradFilter is told of the last convolution."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fewlabel.core.errors import SettingsError
from fewlabel.nets.unet import UNet, UNetConfig, UNetDecoder, UNetEncoder


def image(config, count=2, side=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn((count, config.in_channels, *[side] * config.ndim), generator=generator)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("norm", ["batch", "instance", "group"])
def test_shapes(ndim, norm):
    config = UNetConfig(ndim=ndim, in_channels=2, width=4, depth=3, norm=norm, slope=0.01)
    network = UNet(config, classes=5)
    x = image(config)
    maps = network.encoder(x)
    assert [tuple(m.shape) for m in maps] == [(2, 4 * 2**level, *[16 // 2**level] * ndim) for level in range(3)]
    assert network(x).shape == (2, 5, *[16] * ndim)
    assert config.stride == 4
    assert config.widths == (4, 8, 16)


def test_parameter_count_of_the_paper_sized_network_in_closed_form():
    config = UNetConfig(width=32, depth=5)
    widths = [32, 64, 128, 256, 512]
    inputs = [1, *widths[:-1]]
    encoder = sum(9 * i * o + 9 * o * o + 4 * o for i, o in zip(inputs, widths, strict=True))
    decoder = sum(4 * 2 * o * o + o + 9 * 2 * o * o + 9 * o * o + 4 * o for o in widths[:-1])
    network = UNet(config, classes=4)
    assert sum(p.numel() for p in network.encoder.parameters()) == encoder
    assert sum(p.numel() for p in network.parameters()) == encoder + decoder + 32 * 4 + 4


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_decoder_of_fewer_blocks_gives_the_first_maps_of_the_full_one(ndim):
    config = UNetConfig(ndim=ndim, width=4, depth=4)
    encoder, full = UNetEncoder(config).eval(), UNetDecoder(config).eval()
    maps = encoder(image(config))
    whole = full(maps)
    assert [tuple(m.shape[1:]) for m in whole] == [(w, *[s] * ndim) for w, s in ((16, 4), (8, 8), (4, 16))]
    for blocks in (1, 2, 3):
        part = UNetDecoder(config, blocks).eval()
        part.load_state_dict({k: v for k, v in full.state_dict().items() if int(k.split(".")[1]) < blocks})
        outputs = part(maps)
        assert len(outputs) == blocks
        for found, expected in zip(outputs, whole, strict=False):
            assert torch.equal(found, expected)


@pytest.mark.parametrize("blocks", [0, 4])
def test_impossible_decoders_are_refused(blocks):
    with pytest.raises(ValueError, match="1 to 3 blocks"):
        UNetDecoder(UNetConfig(width=4, depth=4), blocks)


@pytest.mark.parametrize("ndim", [2, 3])
def test_encoder_loads_strictly_into_the_network(ndim):
    config = UNetConfig(ndim=ndim, width=4, depth=3)
    encoder, network = UNetEncoder(config), UNet(config, classes=2)
    before = {k: v.clone() for k, v in network.decoder.state_dict().items()}
    result = network.encoder.load_state_dict(encoder.state_dict(), strict=True)
    assert not result.missing_keys
    assert not result.unexpected_keys
    x = image(config)
    for ours, theirs in zip(network.encoder(x), encoder(x), strict=True):
        assert torch.equal(ours, theirs)
    assert all(torch.equal(before[k], v) for k, v in network.decoder.state_dict().items())


def test_unknown_norm_is_refused_with_its_key():
    with pytest.raises(SettingsError, match=r"network\.norm"):
        UNetConfig.parse({"norm": "layer"}, where="network.")


def test_no_convolution_before_a_norm_has_a_bias():
    network = UNet(UNetConfig(width=4, depth=3), classes=2)
    names = {name for name, _ in network.named_parameters()}
    assert not [name for name in names if "conv" in name and name.endswith("bias")]


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("ndim", [2, 3])
def test_forward_with_tail_rebuilds_the_last_map(ndim, slope):
    config = UNetConfig(ndim=ndim, width=4, depth=3, slope=slope)
    encoder = UNetEncoder(config).train()
    with torch.no_grad():
        for module in encoder.modules():
            if hasattr(module, "running_mean"):
                module.weight.uniform_(0.5, 1.5)
    x = image(config, count=3)
    reference = UNetEncoder(config).train()
    reference.load_state_dict(encoder.state_dict())
    plain = reference(x)
    maps, tail = encoder.forward_with_tail(x)
    for ours, theirs in zip(maps, plain, strict=True):
        assert torch.equal(ours, theirs)
    # One forward only: running statistics moved once.
    assert torch.equal(encoder.blocks[-1].norm2.running_mean, reference.blocks[-1].norm2.running_mean)
    assert not tail.inputs.requires_grad
    assert tail.slope == slope
    last = encoder.blocks[-1]
    convolve = functional.conv2d if ndim == 2 else functional.conv3d
    before = convolve(tail.inputs, last.conv2.weight, padding=1)
    axes = (0, *range(2, 2 + ndim))
    shape = (1, -1, *[1] * ndim)
    normed = (before - before.mean(axes, keepdim=True)) * tail.scale.view(shape) + last.norm2.bias.view(shape)
    torch.testing.assert_close(functional.leaky_relu(normed, slope), maps[-1], rtol=1e-4, atol=1e-5)


def test_every_parameter_gets_a_gradient():
    network = UNet(UNetConfig(width=4, depth=3), classes=3)
    network(image(network.config)).square().mean().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())


def test_bf16_gradients_of_thin_volumes_are_those_of_float32():
    # The last map is two voxels deep: its weights' gradient in bfloat16 was whatever the memory held before.
    torch.manual_seed(0)
    network = UNet(UNetConfig(ndim=3, width=8, depth=3), classes=2).to(memory_format=torch.channels_last_3d)
    images = torch.randn(2, 1, 8, 16, 16).contiguous(memory_format=torch.channels_last_3d)

    def gradients(bf16):
        for size in (1_000, 20_000, 200_000, 1_000_000):
            torch.full((size,), 1e33)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = network(images).float().square().mean()
        return torch.autograd.grad(loss, list(network.parameters()))

    for found, expected in zip(gradients(True), gradients(False), strict=True):
        assert (found - expected).norm() <= 0.5 * expected.norm() + 1e-4


@pytest.mark.parametrize("width", [12, 20])
def test_a_width_that_groups_do_not_divide_is_refused(width):
    with pytest.raises(SettingsError, match=rf"norm.*multiple of 8, not {width}"):
        UNetConfig.parse({"width": width, "norm": "group"})
    UNetConfig.parse({"width": width})
    for fits in (4, 8, 16):
        UNet(UNetConfig.parse({"width": fits, "norm": "group", "depth": 2}), classes=2)(torch.zeros(1, 1, 8, 8))
