"""Passes without trace: statistics of the batch are used, those of the network stay."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewlabel.nets.side_effect_free import preserve_buffers
from fewlabel.nets.unet import UNet, UNetConfig


def network():
    torch.manual_seed(0)
    net = UNet(UNetConfig(width=4, depth=2), classes=2).double()
    net(torch.randn(2, 1, 8, 8, dtype=torch.float64))
    return net


def state(net):
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


@pytest.mark.parametrize("training", [True, False])
def test_buffers_stay_and_the_output_is_that_of_the_mode(training):
    net = network().train(training)
    images = 3 + 2 * torch.randn(2, 1, 8, 8, dtype=torch.float64)
    before = state(net)
    with preserve_buffers(net):
        inside = net(images)
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert torch.equal(inside, net(images))
    moved = any(not torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
    assert moved == training


def test_the_very_tensors_come_back_even_after_an_error():
    net = network()
    before = [id(buffer) for buffer in net.buffers()]

    def fail():
        with preserve_buffers(net):
            assert not {id(buffer) for buffer in net.buffers()} & set(before)
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert [id(buffer) for buffer in net.buffers()] == before


def test_graphs_from_before_and_within_can_be_followed_back():
    net = network()
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    outside = net(images).sum()
    with preserve_buffers(net):
        within = net(2 * images).square().sum() + net(images).sum()
    (outside + within).backward()
    assert all(tensor.grad is not None for tensor in net.parameters())


def test_a_missing_buffer_is_no_trouble():
    norm = nn.InstanceNorm2d(2)
    with preserve_buffers(norm):
        norm(torch.randn(1, 2, 4, 4))
    assert norm.running_mean is None
