"""Adversarial training: two steps, each of which moves its own network and leaves the other one alone."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.objectives.feature_perturbation import channel_factors
from fewlabel.regimes.adversary import discriminator_cost
from kit.finetuning import TOTAL, trainable
from kit.tiny_regimes import supervised, tiny, tiny_batch

#: S's term, without its weight, of the example below.
GOLDEN = 0.696371192231


def example(**settings):
    """A discriminator that is sure of some slices."""
    regime = tiny("adversarial", discriminator_width=4, **settings)
    with torch.no_grad():
        regime.adversary.discriminator.classifier.weight.mul_(40)
    return regime


def predict(regime, batch):
    images = torch.cat([batch.images, batch.unlabelled])
    return images, copy.deepcopy(regime.network)(images).detach()


def cost_of(logits, kind):
    """Mean of -log p of one kind, by a loop."""
    return sum(-float(row.log_softmax(dim=0)[kind]) for row in logits) / len(logits)


def snapshot(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def moved(before, module):
    return {name for name, tensor in module.state_dict().items() if not torch.equal(before[name], tensor)}


def test_terms_are_those_of_the_formula():
    regime = example()
    batch = tiny_batch(regime)
    images, logits = predict(regime, batch)
    judged = regime.adversary.discriminator(logits.softmax(dim=1)[2:], images[2:])
    expected = cost_of(judged, 1)
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "adversarial"}
    assert float(terms["adversarial"].detach()) == pytest.approx(regime.weight(10, TOTAL) * expected, rel=1e-10)
    assert regime.metrics()["adversarial"] == pytest.approx(expected, rel=1e-10)
    assert regime.metrics()["fooled"] == pytest.approx(float((judged[:, 1] > judged[:, 0]).double().mean()))
    for key, value in supervised(logits[:2], batch.labels).items():
        torch.testing.assert_close(terms[key].detach(), value, rtol=1e-12, atol=0)


def test_golden_value():
    regime = example()
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["adversarial"] == pytest.approx(GOLDEN, rel=1e-6)


def test_a_discriminator_that_cannot_tell_costs_log_2():
    regime = example()
    with torch.no_grad():
        regime.adversary.discriminator.classifier.weight.zero_()
        regime.adversary.discriminator.classifier.bias.zero_()
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["adversarial"] == pytest.approx(math.log(2), rel=1e-12)
    assert float(discriminator_cost(torch.zeros(5, 2), 2)) == pytest.approx(2 * math.log(2))


def test_the_discriminator_has_one_cost_for_each_kind():
    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = cost_of(logits[:2], 1) + cost_of(logits[2:], 0)
    assert float(discriminator_cost(logits, 2)) == pytest.approx(expected, rel=1e-12)


def test_the_stage_does_not_train_the_discriminator():
    regime = example()
    assert not any(name.startswith("adversary") for name in trainable(regime))
    assert all(not tensor.requires_grad for tensor in regime.adversary.parameters())
    sum(regime.losses(tiny_batch(regime)).values()).backward()
    assert all(tensor.grad is None for tensor in regime.adversary.parameters())
    assert all(tensor.grad is not None for tensor in regime.network.parameters())


def test_the_network_is_moved_through_the_discriminator():
    regime = example()
    term = regime.losses(tiny_batch(regime))["adversarial"]
    gradients = torch.autograd.grad(term, list(regime.network.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)


def test_losses_leave_the_discriminator_as_it_is():
    regime = example()
    before = snapshot(regime.adversary)
    sum(regime.losses(tiny_batch(regime)).values()).backward()
    assert moved(before, regime.adversary) == set()


def test_only_the_discriminator_moves_in_its_step():
    regime = example()
    terms = regime.losses(tiny_batch(regime))
    before = snapshot(regime)
    regime.after_step(10, TOTAL)
    found = moved(before, regime)
    assert {name for name in found if not name.startswith("adversary.")} == set()
    assert {f"adversary.discriminator.{name}" for name in regime.adversary.discriminator.state_dict()} <= found
    assert all(tensor.grad is None for tensor in regime.parameters())
    assert all(not tensor.requires_grad for tensor in regime.adversary.parameters())
    assert set(terms) == {"ce", "dice", "adversarial"}


def test_what_it_learns_from_has_no_graph():
    regime = example()
    regime.losses(tiny_batch(regime))
    kept = regime.adversary._kept
    assert not any(tensor.requires_grad for tensor in (kept.maps, kept.images, kept.factors))
    assert kept.labelled == 2


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_its_step_is_that_of_adam_on_its_cost(dropout):
    regime = example(discriminator_dropout=dropout, discriminator_rate=3e-3)
    twin = copy.deepcopy(regime.adversary.discriminator).requires_grad_()
    adam = torch.optim.Adam(twin.parameters(), lr=3e-3, betas=(0.9, 0.99))
    for step in range(10, 13):
        batch = tiny_batch(regime, step=step)
        images, logits = predict(regime, batch)
        factors = channel_factors((2, 3), twin.channels, dropout, batch.generator).double()
        assert bool((factors == 0).any()) == (dropout > 0)
        judged = twin(logits.softmax(dim=1), images, factors)
        cost = functional.cross_entropy(judged[:2], torch.ones(2, dtype=torch.int64))
        cost = cost + functional.cross_entropy(judged[2:], torch.zeros(3, dtype=torch.int64))
        adam.zero_grad()
        cost.backward()
        adam.step()
        regime.losses(tiny_batch(regime, step=step))
        regime.after_step(step, TOTAL)
        for mine, other in zip(regime.adversary.discriminator.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, other.detach(), rtol=1e-9, atol=1e-12)


def test_a_step_is_learnt_from_once():
    regime = example()
    regime.losses(tiny_batch(regime))
    regime.after_step(10, TOTAL)
    before = snapshot(regime)
    regime.after_step(11, TOTAL)
    assert moved(before, regime) == set()
    assert int(regime.adversary.optimiser.count) == 1


@pytest.mark.parametrize(("labelled", "unlabelled"), [(0, 3), (2, 0)])
def test_it_does_not_learn_from_one_kind_alone(labelled, unlabelled):
    regime = example()
    regime.losses(tiny_batch(regime, labelled=labelled, unlabelled=unlabelled))
    before = snapshot(regime.adversary)
    regime.after_step(10, TOTAL)
    assert moved(before, regime.adversary) == set()


def test_it_learns_to_tell_the_kinds_apart():
    regime = example(discriminator_rate=0.02, discriminator_dropout=0.0)
    batch = tiny_batch(regime)
    maps = predict(regime, batch)[1].softmax(dim=1)
    images = torch.cat([batch.images, batch.unlabelled])
    with torch.no_grad():
        regime.adversary.discriminator.classifier.weight.div_(40)
    cost = []
    for _ in range(40):
        regime.adversary.keep(maps, images, 2, batch.generator)
        regime.adversary.learn()
        cost.append(float(discriminator_cost(regime.adversary.discriminator(maps, images), 2)))
    assert cost[-1] < 0.2 < cost[0]


def test_a_fooled_discriminator_asks_for_nothing_more():
    regime = example()
    with torch.no_grad():
        regime.adversary.discriminator.classifier.bias.copy_(torch.tensor([-1e4, 1e4]))
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["adversarial"] == pytest.approx(0, abs=1e-12)
    assert regime.metrics()["fooled"] == 1


def test_a_checkpoint_holds_the_discriminator_and_its_moments():
    regime = example()
    keys = set(regime.state_dict())
    count = len(list(regime.adversary.discriminator.parameters()))
    for kind in ("first", "second"):
        assert {f"adversary.optimiser.{kind}{index}" for index in range(count)} <= keys
    assert {"adversary.optimiser.count", "adversary.discriminator.map_stem.weight"} <= keys


def test_it_need_not_see_the_image():
    regime = example(discriminator_image=False)
    assert regime.adversary.discriminator.image_stem is None
    assert example().adversary.discriminator.image_stem.in_channels == 1
    regime.losses(tiny_batch(regime))
    regime.after_step(10, TOTAL)


def test_without_weight_there_is_no_adversary():
    regime = example(unlabelled_weight=0.0)
    before = snapshot(regime.adversary)
    regime.adversary.discriminator.register_forward_pre_hook(lambda module, inputs: pytest.fail("it was asked"))
    assert set(regime.losses(tiny_batch(regime))) == {"ce", "dice"}
    regime.after_step(10, TOTAL)
    assert moved(before, regime.adversary) == set()
