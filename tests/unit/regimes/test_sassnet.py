"""SASSNet: signed distances under supervision and under a discriminator."""

from __future__ import annotations

import copy

import pytest
import torch

from fewlabel.objectives.sdf import signed_distances
from kit.finetuning import TOTAL, trainable
from kit.tiny_regimes import slow_mean_square, supervised, tiny, tiny_batch

#: S's adversarial term, without its weight, of the example below.
GOLDEN = 0.431079333483


def example(**settings):
    regime = tiny("sassnet", discriminator_width=4, **settings)
    with torch.no_grad():
        regime.adversary.discriminator.classifier.weight.mul_(40)
    return regime


def both_heads(regime, images):
    regime = copy.deepcopy(regime)
    features = regime.network.decoder(regime.network.encoder(images))[-1]
    return regime.network.classifier(features).detach(), regime.distance_head(features).tanh().detach()


def test_terms_are_those_of_the_formula():
    regime = example()
    batch = tiny_batch(regime)
    images = torch.cat([batch.images, batch.unlabelled])
    logits, distances = both_heads(regime, images)
    judged = regime.adversary.discriminator(distances[2:], images[2:])
    cost = sum(-float(row.log_softmax(dim=0)[1]) for row in judged) / 3
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "sdf", "adversarial"}
    assert float(terms["adversarial"].detach()) == pytest.approx(regime.weight(10, TOTAL) * cost, rel=1e-10)
    assert regime.metrics()["adversarial"] == pytest.approx(cost, rel=1e-10)
    error = slow_mean_square(distances[:2], signed_distances(batch.labels, 4).double())
    assert float(terms["sdf"].detach()) == pytest.approx(0.3 * error, rel=1e-10)
    for key, value in supervised(logits[:2], batch.labels).items():
        torch.testing.assert_close(terms[key].detach(), value, rtol=1e-12, atol=0)


def test_golden_value():
    regime = example()
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["adversarial"] == pytest.approx(GOLDEN, rel=1e-6)


def test_without_weight_it_is_supervision_with_signed_distances():
    regime, other = example(unlabelled_weight=0.0), tiny("dtc", unlabelled_weight=0.0)
    assert not other.load_state_dict(regime.state_dict(), strict=False).missing_keys
    regime.adversary.discriminator.register_forward_pre_hook(lambda module, inputs: pytest.fail("it was asked"))
    ours, theirs = regime.losses(tiny_batch(regime)), other.losses(tiny_batch(other))
    assert set(ours) == {"ce", "dice", "sdf"}
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_the_discriminator_sees_signed_distances_and_images_of_both_kinds():
    regime = example()
    batch = tiny_batch(regime)
    images = torch.cat([batch.images, batch.unlabelled])
    _, distances = both_heads(regime, images)
    assert regime.adversary.discriminator.maps == 3
    regime.losses(batch)
    kept = regime.adversary._kept
    torch.testing.assert_close(kept.maps, distances, rtol=1e-12, atol=1e-14)
    assert torch.equal(kept.images, images)
    assert kept.labelled == 2
    assert not kept.maps.requires_grad


def test_each_network_moves_in_its_own_step():
    regime = example()
    assert not any(name.startswith("adversary") for name in trainable(regime))
    term = regime.losses(tiny_batch(regime))["adversarial"]
    before = {name: tensor.clone() for name, tensor in regime.state_dict().items()}
    heads = list(regime.distance_head.parameters())
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(term, heads, retain_graph=True))
    # The classifier has no part in it.
    still = torch.autograd.grad(term, list(regime.network.classifier.parameters()), allow_unused=True)
    assert still == (None, None)
    regime.after_step(10, TOTAL)
    found = {name for name, tensor in regime.state_dict().items() if not torch.equal(before[name], tensor)}
    assert all(name.startswith("adversary.") for name in found)
    assert {f"adversary.discriminator.{name}" for name in regime.adversary.discriminator.state_dict()} <= found


def test_neutral_settings_leave_head_and_discriminator_alone():
    regime = example(unlabelled_weight=0.0, sdf_weight=0.0)
    for part in (regime.distance_head, regime.adversary.discriminator):
        part.register_forward_pre_hook(lambda module, inputs: pytest.fail("it was used"))
    assert set(regime.losses(tiny_batch(regime))) == {"ce", "dice"}
