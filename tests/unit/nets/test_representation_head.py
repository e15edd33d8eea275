"""The representation head: the published form of it, sizes, strides, and that it is not linear."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fewlabel.nets.representation_head import RepresentationHead, RowHead, pyramid
from fewlabel.nets.unet import UNet, UNetConfig


def network(ndim=2, depth=3):
    torch.manual_seed(0)
    return UNet(UNetConfig(ndim=ndim, width=4, depth=depth), classes=3).double()


def images(ndim=2, side=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 1, *[side] * ndim, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_pyramid_is_what_the_network_passes_through(ndim):
    net = network(ndim).eval()
    found = pyramid(net, images(ndim))
    assert torch.equal(found.logits, net(images(ndim)))
    assert [level.shape[2] for level in found.maps] == [4, 8, 16]
    assert [level.shape[1] for level in found.maps] == [16, 8, 4]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_head_has_its_stride_and_its_dimension(ndim, stride):
    net = network(ndim)
    head = RepresentationHead(net.config, 5, stride).double()
    found = head(pyramid(net, images(ndim)).maps)
    assert found.output.shape == (2, 5, *[16 // stride] * ndim)
    torch.testing.assert_close(head.last(found.hidden), found.output)
    assert float(found.hidden.detach().min()) == 0


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_it_is_the_published_form_residual_enlarged_joined_projected(stride):
    net = network()
    head = RepresentationHead(net.config, 5, stride).double().eval()
    maps = pyramid(net, images()).maps
    size = (16 // stride, 16 // stride)
    resized = []
    for level, residual in zip(maps, head.residual, strict=True):
        if level.shape[2] > size[0]:
            small = functional.avg_pool2d(level, level.shape[2] // size[0])
            resized.append(small + functional.relu(functional.conv2d(small, residual.weight)))
        else:
            whole = level + functional.relu(functional.conv2d(level, residual.weight))
            resized.append(functional.interpolate(whole, size=size, mode="bilinear", align_corners=False))
    joined = torch.cat(resized, dim=1)
    weight = torch.cat([join.weight for join in head.join], dim=1)
    hidden = head.norm(functional.conv2d(joined, weight)).relu()
    torch.testing.assert_close(head(maps).output, head.last(hidden), rtol=1e-10, atol=1e-12)


def test_every_layer_and_every_map_receives_a_gradient():
    net = network()
    head = RepresentationHead(net.config, 5, 2).double()
    maps = [level.detach().requires_grad_() for level in pyramid(net, images()).maps]
    head(maps).output.square().sum().backward()
    for tensor in [*head.parameters(), *maps]:
        assert float(tensor.grad.abs().sum()) > 0


@pytest.mark.parametrize("head", ["rows", "pyramid"])
def test_no_head_is_linear(head):
    # The public code's heads are linear layers behind linear layers.
    net = network()
    if head == "rows":
        made = RowHead(6, 4).double()
        inputs = [torch.randn(5, 6).double() for _ in range(2)]
        f = made
    else:
        made = RepresentationHead(net.config, 4, 4).double().eval()
        inputs = [pyramid(net, images(seed=s)).maps for s in (0, 1)]

        def f(maps):
            return made(maps).output

    a, b = inputs
    zero = [0 * level for level in a] if head == "pyramid" else 0 * a
    both = [x + y for x, y in zip(a, b, strict=True)] if head == "pyramid" else a + b
    assert not torch.allclose(f(both) + f(zero), f(a) + f(b), atol=1e-3)


def test_rows_are_normalised_by_themselves():
    torch.manual_seed(0)
    head = RowHead(6, 4).double()
    rows = torch.randn(3, 2, 6).double()
    hidden = functional.layer_norm(rows @ head.first.weight.T, (6,), head.norm.weight, head.norm.bias).relu()
    torch.testing.assert_close(head(rows), hidden @ head.second.weight.T + head.second.bias)
    torch.testing.assert_close(head(rows[:1]), head(rows)[:1])


@pytest.mark.parametrize("stride", [0, 3, 8])
def test_a_stride_the_network_has_not_is_an_error(stride):
    with pytest.raises(ValueError, match="strides 1 to 4"):
        RepresentationHead(network().config, 5, stride)
