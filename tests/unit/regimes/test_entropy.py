"""Entropy minimisation: the loss by a slow loop, its ends, and over which slices it is."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch

from kit.tiny_regimes import EachPixel, Uniform, supervised, tiny, tiny_batch, use

#: Entropy over log C of the example below.
GOLDEN = 0.9768343509


def slow_share(logits):
    p = logits.detach().softmax(dim=1)
    found = [
        -sum(value * math.log(value) for value in p[n, :, y, x].tolist())
        for n, y, x in itertools.product(range(len(p)), range(16), range(16))
    ]
    return sum(found) / len(found) / math.log(p.shape[1])


def test_terms_are_those_of_the_formula_over_both_streams():
    regime = tiny("entropy")
    batch = tiny_batch(regime)
    logits = copy.deepcopy(regime.network)(torch.cat([batch.images, batch.unlabelled]))
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "entropy"}
    expected = slow_share(logits)
    assert float(terms["entropy"].detach()) == pytest.approx(regime.weight(10, 20) * expected, rel=1e-11)
    for key, value in supervised(logits[:2], batch.labels).items():
        torch.testing.assert_close(terms[key], value, rtol=1e-12, atol=0)
    assert regime.metrics()["entropy"] == pytest.approx(expected, rel=1e-11)
    structures = (logits.detach().argmax(dim=1) != 0).double().mean()
    assert regime.metrics()["foreground"] == pytest.approx(float(structures), rel=1e-6)


def test_golden_value():
    regime = tiny("entropy")
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["entropy"] == pytest.approx(GOLDEN, rel=1e-6)


@pytest.mark.parametrize("classes", [4, 6])
def test_uniform_predictions_cost_1_whatever_the_number_of_classes_and_move_nothing(classes):
    regime = use(tiny("entropy", ramp=0.0, unlabelled_weight=1.0), Uniform(classes))
    term = regime.losses(tiny_batch(regime))["entropy"]
    assert float(term.detach()) == pytest.approx(1.0, rel=1e-14)
    (gradient,) = torch.autograd.grad(term, [regime.network.layer.bias])
    assert float(gradient.abs().max()) < 1e-15


def test_sure_predictions_cost_0_and_move_nothing():
    regime = use(tiny("entropy"), EachPixel())
    with torch.no_grad():
        regime.network.layer.weight.zero_()
        regime.network.layer.bias.copy_(torch.tensor([900.0, 0.0, 0.0, 0.0]))
    term = regime.losses(tiny_batch(regime))["entropy"]
    assert float(term.detach()) == 0.0
    (gradient,) = torch.autograd.grad(term, [regime.network.layer.bias])
    assert not gradient.any()
    # The trap: all background is as good as it gets, and the log says so.
    assert regime.metrics()["foreground"] == 0.0


def test_a_step_makes_likely_classes_likelier():
    regime = use(tiny("entropy", unlabelled_weight=1.0, ramp=0.0), EachPixel())
    batch = tiny_batch(regime)
    before = regime.network(batch.unlabelled).detach().softmax(dim=1)
    term = regime.losses(batch)["entropy"]
    parameters = list(regime.network.parameters())
    with torch.no_grad():
        for tensor, gradient in zip(parameters, torch.autograd.grad(term, parameters), strict=True):
            tensor.sub_(0.1 * gradient)
    after = regime.network(batch.unlabelled).detach().softmax(dim=1)
    assert float(after.amax(dim=1).mean()) > float(before.amax(dim=1).mean())
    assert float(regime.losses(tiny_batch(regime))["entropy"].detach()) < float(term.detach())


def test_labelled_slices_count_as_unlabelled_ones_do():
    values = []
    for swap in (False, True):
        regime = use(tiny("entropy"), EachPixel())
        batch = tiny_batch(regime, unlabelled=2)
        if swap:
            images = batch.images.clone()
            batch.images.copy_(batch.unlabelled)
            batch.unlabelled.copy_(images)
        values.append(float(regime.losses(batch)["entropy"].detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-13)
