"""FixMatch: its terms by the formula, its limits, golden values, volumes."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch

from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.segmentation import cross_entropy, soft_dice_loss
from fewlabel.regimes.weak_to_strong import Pseudo
from kit.finetuning import build, toy_volumes
from kit.tiny_regimes import EachPixel, apart, supervised, tiny, tiny_batch, use

#: Cross-entropy, Dice and the pseudo-label part of the example below.
GOLDEN = (1.37311105233, 0.887353431296, 1.79283446889)
LATE = 15


def expected_pseudo(regime, batch, again):
    """CE of all pixels, unsure ones free, plus Dice, of one plain pass; and what the student says of labelled rows."""
    confidence, labels = copy.deepcopy(regime.teacher.network)(batch.unlabelled).softmax(dim=1).max(dim=1)
    labels = labels.masked_fill(confidence < regime.settings.threshold, 255)
    strong, target = regime.mixed(batch.unlabelled_again[0], Pseudo(labels), again)
    logits = copy.deepcopy(regime.network)(torch.cat([batch.images, strong]))
    count = len(batch.images)
    sure = (target != 255).double().mean()
    loss = sure * cross_entropy(logits[count:], target) + soft_dice_loss(logits[count:], target)
    return supervised(logits[:count], batch.labels), loss, sure


@pytest.mark.parametrize("step", [10, LATE])
def test_terms_are_those_of_the_formula(step):
    regime = apart(tiny("fixmatch", threshold=0.6))
    batch, again = (tiny_batch(regime, step=step) for _ in range(2))
    known, loss, sure = expected_pseudo(regime, batch, again)
    assert 0.1 < float(sure) < 0.9
    terms = regime.losses(batch)
    assert set(terms) == {"ce", "dice", "pseudo"}
    for key, value in known.items():
        torch.testing.assert_close(terms[key], value, rtol=1e-11, atol=0)
    torch.testing.assert_close(terms["pseudo"], regime.weight(step, 20) * loss, rtol=1e-11, atol=0)
    assert regime.metrics()["pseudo"] == pytest.approx(float(loss.detach()), rel=1e-11)


def test_golden_values():
    regime = apart(tiny("fixmatch", threshold=0.6))
    terms = regime.losses(tiny_batch(regime, step=LATE))
    assert [float(terms[name].detach()) for name in ("ce", "dice", "pseudo")] == pytest.approx(GOLDEN, rel=1e-6)


def test_where_the_student_teaches_itself_without_any_change_it_is_its_own_confidence():
    """All pixels count, the views are one, T = S: CE is the mean of -log max q."""
    regime = use(tiny("fixmatch", threshold=0.0, cutmix=0.0, guard=0.0, dice_weight=0.0), EachPixel())
    batch = tiny_batch(regime)
    batch = dataclasses.replace(batch, unlabelled_again=(batch.unlabelled,), step=LATE)
    confidence = regime.network(batch.unlabelled).softmax(dim=1).amax(dim=1)
    term = regime.losses(batch)["pseudo"]
    torch.testing.assert_close(term, -confidence.log().mean(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("teacher", ["average", "self"])
def test_the_same_holds_with_statistics_of_the_batch(teacher):
    regime = tiny("fixmatch", threshold=0.0, cutmix=0.0, dice_weight=0.0, teacher=teacher, joint=False)
    batch = tiny_batch(regime)
    batch = dataclasses.replace(batch, unlabelled_again=(batch.unlabelled,), step=LATE)
    confidence = copy.deepcopy(regime.network)(batch.unlabelled).softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(regime.losses(batch)["pseudo"], -confidence.log().mean(), rtol=1e-10, atol=0)


def test_the_teacher_sees_the_weak_view_and_the_student_the_strong_one():
    regime = apart(tiny("fixmatch", threshold=0.5, cutmix=0.0))
    batch = dataclasses.replace(tiny_batch(regime), step=LATE)
    seen = {"teacher": [], "student": []}
    regime.network.register_forward_pre_hook(lambda _, inputs: seen["student"].append(inputs[0]))
    regime.teacher.network.register_forward_pre_hook(lambda _, inputs: seen["teacher"].append(inputs[0]))
    regime.losses(batch)
    assert len(seen["teacher"]) == len(seen["student"]) == 1
    assert torch.equal(seen["teacher"][0], batch.unlabelled)
    assert torch.equal(seen["student"][0], torch.cat([batch.images, batch.unlabelled_again[0]]))


def test_without_labelled_slices_it_is_self_training():
    regime = apart(tiny("fixmatch", threshold=0.5))
    batch, again = (tiny_batch(regime, labelled=0, step=LATE) for _ in range(2))
    _, loss, _ = expected_pseudo(regime, batch, again)
    terms = regime.losses(batch)
    assert float(terms["ce"].detach() + terms["dice"].detach()) == 0
    torch.testing.assert_close(terms["pseudo"], regime.weight(LATE, 20) * loss, rtol=1e-11, atol=0)


def test_volumes_learn_and_are_counted():
    regime = build("fixmatch", network=UNetConfig(width=4, depth=3, ndim=3), threshold=0.0)
    terms = regime.losses(toy_volumes(regime, step=LATE))
    terms["pseudo"].backward()
    assert all(bool(tensor.grad.any()) for tensor in regime.network.parameters())
    figures = regime.metrics()
    assert figures["sure"] == 1.0
    assert 0 < figures["scattered"] <= 1
    regime.after_step(LATE, 20)
    assert int(regime.shares.seen) == 1
