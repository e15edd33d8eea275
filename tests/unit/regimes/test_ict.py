"""ICT: mixes and targets by slow loops, shares of 0 and 1, linear networks."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from fewlabel.objectives.mixing import beta_shares, partners
from fewlabel.regimes import ict
from kit.tiny_regimes import LinearProbabilities, apart, slow_mean_square, supervised, tiny, tiny_batch, use

#: Consistency, without its weight, of the example below.
GOLDEN = 0.107576229867


def drawn(batch, alpha=0.2):
    rows = len(batch.unlabelled)
    return partners(rows, batch.generator).tolist(), beta_shares(rows, alpha, batch.generator).tolist()


def expected_terms(regime, batch):
    """The formula row by row, with the networks as they are."""
    student, teacher = copy.deepcopy(regime.network).train(), copy.deepcopy(regime.teacher.network).train()
    others, shares = drawn(batch, regime.settings.alpha)
    guesses = teacher(batch.unlabelled).softmax(dim=1).detach()
    mixed, target = [], []
    for row, (other, share) in enumerate(zip(others, shares, strict=True)):
        mixed.append(share * batch.unlabelled[row] + (1 - share) * batch.unlabelled[other])
        target.append(share * guesses[row] + (1 - share) * guesses[other])
    logits = student(torch.cat([batch.images, torch.stack(mixed)]))
    return student, logits, logits[len(batch.images) :].softmax(dim=1), torch.stack(target)


@pytest.mark.parametrize("alpha", [0.2, 2.0])
def test_terms_are_those_of_the_formula(alpha):
    regime = apart(tiny("ict", alpha=alpha))
    _, logits, ours, target = expected_terms(regime, tiny_batch(regime))
    # Targets are probabilities.
    torch.testing.assert_close(target.sum(dim=1), torch.ones(3, 16, 16, dtype=torch.float64), rtol=1e-12, atol=0)
    expected = slow_mean_square(ours, target)
    terms = regime.losses(tiny_batch(regime))
    assert set(terms) == {"ce", "dice", "consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(regime.weight(10, 20) * expected, rel=1e-10)
    assert regime.metrics()["consistency"] == pytest.approx(expected, rel=1e-10)
    for key, value in supervised(logits[:2], tiny_batch(regime).labels).items():
        torch.testing.assert_close(terms[key], value, rtol=1e-12, atol=0)


def test_golden_value():
    regime = apart(tiny("ict"))
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(GOLDEN, rel=1e-6)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_of_0_and_1_give_plain_consistency(monkeypatch, share):
    monkeypatch.setattr(ict, "beta_shares", lambda rows, alpha, generator: torch.full((rows,), share))
    regime = apart(tiny("ict"))
    batch = tiny_batch(regime)
    student, teacher = copy.deepcopy(regime.network), copy.deepcopy(regime.teacher.network)
    ours = student(torch.cat([batch.images, batch.unlabelled]))[2:].softmax(dim=1)
    expected = slow_mean_square(ours, teacher(batch.unlabelled).softmax(dim=1))
    regime.losses(batch)
    assert regime.metrics()["consistency"] == pytest.approx(expected, rel=1e-10)


def test_a_network_that_is_linear_costs_nothing_however_it_is_mixed():
    regime = use(tiny("ict", alpha=1.0), LinearProbabilities())
    two = dataclasses.replace(tiny_batch(regime), labels=tiny_batch(regime).labels.clamp(max=1))
    term = regime.losses(two)["consistency"]
    assert float(term.detach()) == pytest.approx(0.0, abs=1e-28)
    # Once the student has moved on, its own slope is what differs.
    with torch.no_grad():
        regime.network.slope.mul_(1.5)
    batch = tiny_batch(regime)
    others, shares = drawn(tiny_batch(regime), 1.0)
    regime.losses(dataclasses.replace(two, generator=batch.generator))
    rows = zip(batch.unlabelled, others, shares, strict=True)
    mixed = torch.stack([share * row + (1 - share) * batch.unlabelled[other] for row, other, share in rows])
    assert regime.metrics()["consistency"] == pytest.approx(float((0.025 * mixed).square().mean()), rel=1e-10)


def test_a_slice_alone_is_mixed_with_itself():
    regime = apart(tiny("ict"))
    batch = tiny_batch(regime, unlabelled=1)
    ours = copy.deepcopy(regime.network)(torch.cat([batch.images, batch.unlabelled]))[2:].softmax(dim=1)
    expected = slow_mean_square(ours, regime.teacher(batch.unlabelled).softmax(dim=1))
    regime.losses(batch)
    assert regime.metrics()["consistency"] == pytest.approx(expected, rel=1e-10)


def test_the_student_sees_labelled_slices_as_they_are_and_no_unlabelled_one_unmixed():
    regime = tiny("ict", alpha=5.0)
    seen = []
    regime.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batch = tiny_batch(regime)
    regime.losses(batch)
    assert len(seen) == 1
    assert torch.equal(seen[0][:2], batch.images)
    assert seen[0].shape == (5, 1, 16, 16)
    assert all(not torch.allclose(mixed, row) for mixed in seen[0][2:] for row in batch.unlabelled)


def test_gradient_is_that_of_the_student_with_the_target_held():
    regime = apart(tiny("ict"))
    student, _, ours, target = expected_terms(regime, tiny_batch(regime))
    again = regime.weight(10, 20) * (ours - target).square().mean()
    expected = torch.autograd.grad(again, list(student.parameters()))
    term = regime.losses(tiny_batch(regime))["consistency"]
    for a, b in zip(torch.autograd.grad(term, list(regime.network.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-13)
