"""Mean Teacher: its consistency by a slow loop, its limits, and where gradients go."""

from __future__ import annotations

import copy

import pytest
import torch

from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.objectives.batch_noise_and_turns import gaussian_noise
from kit.tiny_regimes import apart, slow_mean_square, supervised, tiny, tiny_batch

#: Consistency, without its weight, of the example below.
GOLDEN = 0.116379465757


def expected_terms(regime, batch):
    """The formula, with the networks of the regime as they are."""
    student, teacher = copy.deepcopy(regime.network).train(), copy.deepcopy(regime.teacher.network).train()
    noise = gaussian_noise(batch.unlabelled, regime.settings.noise, regime.settings.noise_limit, batch.generator)
    logits = student(torch.cat([batch.images, batch.unlabelled]))
    count = len(batch.images)
    ours = logits[count:].softmax(dim=1)
    theirs = teacher(batch.unlabelled + noise).softmax(dim=1).detach()
    return student, supervised(logits[:count], batch.labels), ours, theirs


@pytest.mark.parametrize("weight", [0.1, 3.0])
def test_terms_are_those_of_the_formula(weight):
    regime = apart(tiny("mean_teacher", unlabelled_weight=weight, ramp=0.0))
    _, plain, ours, theirs = expected_terms(regime, tiny_batch(regime))
    distance = slow_mean_square(ours, theirs)
    terms = regime.losses(tiny_batch(regime))
    assert set(terms) == {"ce", "dice", "consistency"}
    assert float(terms["consistency"].detach()) == pytest.approx(weight * distance, rel=1e-11)
    for key, value in plain.items():
        torch.testing.assert_close(terms[key], value, rtol=1e-12, atol=0)
    assert regime.metrics()["consistency"] == pytest.approx(distance, rel=1e-11)


def test_golden_value():
    regime = apart(tiny("mean_teacher"))
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == pytest.approx(GOLDEN, rel=1e-6)


def test_a_student_that_equals_its_teacher_costs_nothing_without_noise():
    regime = tiny("mean_teacher", noise=0.0).eval()
    regime.losses(tiny_batch(regime))
    assert regime.metrics()["consistency"] == 0.0
    noisy = tiny("mean_teacher").eval()
    noisy.losses(tiny_batch(noisy))
    assert noisy.metrics()["consistency"] > 0


def test_only_the_teacher_sees_noise_and_at_most_the_limit():
    regime = tiny("mean_teacher", noise=5.0, noise_limit=0.05)
    seen = {}
    regime.network.register_forward_pre_hook(lambda module, inputs: seen.update(student=inputs[0]))
    regime.teacher.register_forward_pre_hook(lambda module, inputs: seen.update(teacher=inputs[0]))
    batch = tiny_batch(regime)
    regime.losses(batch)
    assert torch.equal(seen["student"], torch.cat([batch.images, batch.unlabelled]))
    noise = seen["teacher"] - batch.unlabelled
    assert float(noise.abs().max()) == pytest.approx(0.05, rel=1e-9)
    assert float((noise.abs() > 0.0499).double().mean()) > 0.9


def test_gradient_is_that_of_the_student_with_the_target_held():
    regime = apart(tiny("mean_teacher"))
    student, _, ours, theirs = expected_terms(regime, tiny_batch(regime))
    again = regime.weight(10, 20) * (ours - theirs).square().mean()
    expected = torch.autograd.grad(again, list(student.parameters()))
    term = regime.losses(tiny_batch(regime))["consistency"]
    for a, b in zip(torch.autograd.grad(term, list(regime.network.parameters())), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-13)
    assert all(tensor.grad is None and not tensor.requires_grad for tensor in regime.teacher.parameters())


def test_it_rests_for_the_first_thirtieth():
    regime = tiny("mean_teacher")
    assert [regime.weight(step, 300) > 0 for step in (0, 9, 10, 11)] == [False, False, True, True]
    assert set(regime.losses(tiny_batch(regime, step=0))) == {"ce", "dice"}


def test_the_order_of_unlabelled_slices_does_not_matter_without_noise():
    values = []
    for order in ([0, 1, 2], [2, 0, 1]):
        regime = apart(tiny("mean_teacher", noise=0.0))
        batch = tiny_batch(regime)
        batch.unlabelled.copy_(batch.unlabelled[order].clone())
        values.append(float(regime.losses(batch)["consistency"].detach()))
    assert values[0] == pytest.approx(values[1], rel=1e-11)


def test_a_limit_below_0_is_refused():
    with pytest.raises(SettingsError, match="noise_limit"):
        resolve_plugin("fewlabel.regimes", {"name": "mean_teacher", "noise_limit": -0.1})
