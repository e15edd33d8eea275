"""Classifiers begin at the shares of classes: closed forms, the floor, further classifiers, and what is left alone."""

from __future__ import annotations

import math

import pytest
import torch

from fewlabel.nets.class_prior import LEAST_SHARE, begin_as, begin_at_shares, log_shares
from fewlabel.nets.unet import UNet, UNetConfig
from kit.finetuning import build

TINY = UNetConfig(width=4, depth=2)


def test_shares_are_those_of_the_pixels() -> None:
    assert log_shares(torch.tensor([70, 20, 10])).tolist() == pytest.approx([math.log(s) for s in (0.7, 0.2, 0.1)])


def test_a_rare_class_and_one_that_never_occurs_begin_at_the_floor() -> None:
    found = log_shares(torch.tensor([10**9, 1, 0]))
    assert found.exp().tolist() == pytest.approx([1, LEAST_SHARE, LEAST_SHARE])
    assert LEAST_SHARE == 0.01


def test_without_a_labelled_pixel_all_classes_are_equal() -> None:
    assert log_shares(torch.zeros(4, dtype=torch.int64)).exp().tolist() == pytest.approx([0.25] * 4)


def test_a_silent_classifier_predicts_the_shares() -> None:
    network = UNet(TINY, 3)
    weights = network.classifier.weight.detach().clone()
    begin_at_shares(network, torch.tensor([80, 15, 5]))
    assert torch.equal(network.classifier.weight, weights), "only the biases"
    torch.nn.init.zeros_(network.classifier.weight)
    found = network(torch.randn(1, 1, 8, 8)).softmax(dim=1)
    assert torch.allclose(found, torch.tensor([0.8, 0.15, 0.05])[:, None, None].expand_as(found))


def test_further_classifiers_begin_as_that_of_the_network() -> None:
    network = UNet(TINY, 3)
    begin_at_shares(network, torch.tensor([80, 15, 5]))
    others = [torch.nn.Conv2d(7, 3, 1), torch.nn.Conv3d(2, 3, 1)]
    begin_as(network, others)
    for other in others:
        assert torch.equal(other.bias, network.classifier.bias)
        assert other.bias is not network.classifier.bias


@pytest.mark.parametrize("name", ["cct", "cps", "mc_net", "urpc"])
def test_regimes_name_all_their_further_classifiers_and_leave_them_random(name: str) -> None:
    regime = build(name, network=UNetConfig(width=4, depth=3))
    named = {id(classifier.get_parameter("bias")) for classifier in regime.further_classifiers()}
    found = {
        id(tensor)
        for key, tensor in regime.named_parameters()
        if key.endswith("bias") and "classifier" in key and not key.startswith("network.")
    }
    assert found == named
    assert found
    own = regime.network.classifier.get_parameter("bias")
    assert not any(torch.equal(each.get_parameter("bias"), own) for each in regime.further_classifiers())
