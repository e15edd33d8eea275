"""DTC: two heads, signed distances as targets, agreement over all slices."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import math

import pytest
import torch

from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.sdf import signed_distances
from kit.finetuning import TOTAL, build, toy_volumes
from kit.tiny_regimes import slow_mean_square, supervised, tiny, tiny_batch

#: Agreement, without its weight, and signed distances, with theirs, of the example below.
GOLDEN = (0.139806031423, 0.157208221142)


def both_heads(regime, images):
    regime = copy.deepcopy(regime)
    features = regime.network.decoder(regime.network.encoder(images))[-1]
    return regime.network.classifier(features).detach(), regime.distance_head(features).tanh().detach()


def slow_agreement(logits, distances, steepness):
    found = []
    chances = logits.softmax(dim=1)
    for n, c, y, x in itertools.product(*map(range, distances.shape)):
        mask = 1 / (1 + math.exp(min(steepness * float(distances[n, c, y, x]), 700)))
        found.append((mask - float(chances[n, c + 1, y, x])) ** 2)
    return sum(found) / len(found)


@pytest.mark.parametrize("steepness", [1500.0, 3.0])
def test_terms_are_those_of_the_formula(steepness):
    regime = tiny("dtc", steepness=steepness)
    batch = tiny_batch(regime)
    logits, distances = both_heads(regime, torch.cat([batch.images, batch.unlabelled]))
    agreement = slow_agreement(logits, distances, steepness)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "sdf", "consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(regime.weight(10, TOTAL) * agreement, rel=1e-10)
    assert regime.metrics()["consistency"] == pytest.approx(agreement, rel=1e-10)
    error = slow_mean_square(distances[:2], signed_distances(batch.labels, 4).double())
    assert float(terms["sdf"].detach()) == pytest.approx(0.3 * error, rel=1e-10)
    for key, value in supervised(logits[:2], batch.labels).items():
        torch.testing.assert_close(terms[key].detach(), value, rtol=1e-12, atol=0)


def test_golden_values():
    regime = tiny("dtc", steepness=3.0)
    sdf = float(regime.losses(tiny_batch(regime))["sdf"].detach())
    assert (regime.metrics()["consistency"], sdf) == pytest.approx(GOLDEN, rel=1e-6)


def test_there_is_one_distance_per_foreground_class_within_bounds():
    regime = tiny("dtc")
    logits, distances = regime.segment(tiny_batch(regime).images)
    assert logits.shape == (2, 4, 16, 16)
    assert distances.shape == (2, 3, 16, 16)
    assert float(distances.detach().abs().max()) < 1


def test_pixels_without_label_take_no_part_in_the_error():
    regime = tiny("dtc")
    batch = tiny_batch(regime)
    labels = batch.labels.clone()
    labels[:, :5] = 255
    _, distances = both_heads(regime, torch.cat([batch.images, batch.unlabelled]))
    error = slow_mean_square(distances[:2], signed_distances(labels, 4).double(), labels != 255)
    found = regime.losses(dataclasses.replace(batch, labels=labels))["sdf"]
    assert float(found.detach()) == pytest.approx(0.3 * error, rel=1e-10)


def test_an_absent_class_is_far_outside():
    regime = tiny("dtc")
    batch = tiny_batch(regime)
    labels = torch.zeros_like(batch.labels)
    _, distances = both_heads(regime, torch.cat([batch.images, batch.unlabelled]))
    found = regime.losses(dataclasses.replace(batch, labels=labels))["sdf"]
    expected = slow_mean_square(distances[:2], torch.ones_like(distances[:2]))
    assert float(found.detach()) == pytest.approx(0.3 * expected, rel=1e-10)


def test_heads_that_describe_the_same_shape_agree():
    regime = tiny("dtc")
    with torch.no_grad():
        for head, values in ((regime.network.classifier, [0, 100, 0, 0]), (regime.distance_head, [-9, 9, 9])):
            head.weight.zero_()
            head.bias.copy_(torch.tensor(values))
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(0, abs=1e-15)
    with torch.no_grad():
        regime.distance_head.bias.neg_()
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(1)


def test_agreement_moves_both_heads():
    regime = tiny("dtc", steepness=3.0)
    term = regime.losses(tiny_batch(regime))["consistency"]
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(term, list(regime.parameters())))


def test_the_weight_of_the_error_alone_counts_while_agreement_rests():
    regime = tiny("dtc", rest=0.9, sdf_weight=0.7)
    batch = tiny_batch(regime)
    _, distances = both_heads(regime, batch.images)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "sdf"}
    error = slow_mean_square(distances, signed_distances(batch.labels, 4).double())
    assert float(terms["sdf"].detach()) == pytest.approx(0.7 * error, rel=1e-10)


def test_without_their_weight_distances_are_not_supervised():
    regime = tiny("dtc", sdf_weight=0.0)
    assert set(regime.losses(tiny_batch(regime))) == {"ce", "dice", "consistency"}


def test_neutral_settings_leave_the_head_alone():
    regime = tiny("dtc", unlabelled_weight=0.0, sdf_weight=0.0)
    regime.distance_head.register_forward_pre_hook(lambda module, inputs: pytest.fail("the head was used"))
    assert set(regime.losses(tiny_batch(regime))) == {"ce", "dice"}


def test_patches_have_distances_of_their_own():
    regime = build("dtc", network=UNetConfig(width=4, depth=3, ndim=3), dtype=torch.float64, joint=True)
    batch = toy_volumes(regime, dtype=torch.float64)
    _, distances = both_heads(regime, torch.cat([batch.images, batch.unlabelled]))
    target = signed_distances(batch.labels, 4).double()
    assert target.shape == (2, 3, 8, 16, 16)
    found = regime.losses(batch)["sdf"]
    assert float(found.detach()) == pytest.approx(0.3 * float((distances[:2] - target).square().mean()), rel=1e-10)


def test_distances_are_learnt_from_labels():
    regime = tiny("dtc")
    optimiser = torch.optim.Adam(regime.parameters(), lr=0.02)
    found = []
    for _ in range(25):
        loss = regime.losses(tiny_batch(regime))["sdf"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.5 * found[0]
