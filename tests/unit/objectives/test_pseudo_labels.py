"""Cross-entropy on a teacher's labels, slice by slice as far as it is sure."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from fewlabel.objectives.pseudo_labels import confident_cross_entropy, pseudo_labels


def maps(seed=0, classes=3, space=(4, 5)):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(3, classes, *space, generator=generator, dtype=torch.float64)
    labels, confidence = pseudo_labels(torch.randn(3, classes, *space, generator=generator, dtype=torch.float64) * 2)
    return logits, labels, confidence


def test_labels_and_confidence_are_the_largest_probability():
    logits, _, _ = maps()
    labels, confidence = pseudo_labels(logits.requires_grad_())
    torch.testing.assert_close(confidence, logits.softmax(1).amax(1).detach())
    assert torch.equal(labels, logits.argmax(1))
    assert not confidence.requires_grad


@pytest.mark.parametrize("space", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_the_loss_is_that_of_a_loop(space, threshold):
    logits, labels, confidence = maps(space=space)
    labels.view(3, -1)[0, :7] = 255
    labels[2] = 255
    total, pixels = 0.0, 0
    for row, target, sure in zip(logits.flatten(2), labels.flatten(1), confidence.flatten(1), strict=True):
        known = [p for p in range(len(target)) if int(target[p]) != 255]
        share = sum(float(sure[p]) >= threshold for p in known) / max(len(known), 1)
        total += share * sum(float(-row[:, p].log_softmax(0)[target[p]]) for p in known)
        pixels += len(known)
    found = confident_cross_entropy(logits, labels, confidence, threshold)
    assert float(found) == pytest.approx(total / pixels, abs=1e-12)


def test_above_one_it_is_zero_and_at_zero_plain_cross_entropy():
    logits, labels, confidence = maps()
    labels[0, :2] = 255
    assert float(confident_cross_entropy(logits, labels, confidence, 1.01)) == 0
    plain = functional.cross_entropy(logits, labels, ignore_index=255)
    torch.testing.assert_close(confident_cross_entropy(logits, labels, confidence, 0.0), plain)


def test_golden_value():
    # Pixel 1 has probabilities (1/4, 3/4) and pixel 2 halves; the teacher is sure of one of the two.
    logits = torch.stack([torch.tensor([[0.0, 0.0]]), torch.tensor([[math.log(3), 0.0]])])[None].double()
    found = confident_cross_entropy(logits, torch.tensor([[[1, 0]]]), torch.tensor([[[0.99, 0.6]]]), 0.97)
    assert float(found) == pytest.approx(0.5 * (math.log(4 / 3) + math.log(2)) / 2, abs=1e-7)


def test_ignored_pixels_have_no_gradient_and_their_confidence_does_not_count():
    logits, labels, confidence = maps()
    labels[:, 1] = 255
    logits.requires_grad_()
    loss = confident_cross_entropy(logits, labels, confidence, 0.6)
    loss.backward()
    assert float(logits.grad[:, :, 1].abs().sum()) == 0
    other = confidence.clone()
    other[:, 1] = 1.0
    assert float(confident_cross_entropy(logits, labels, other, 0.6).detach()) == float(loss.detach())


def test_no_rows_and_no_known_pixel_give_zero():
    logits, labels, confidence = maps()
    assert float(confident_cross_entropy(logits[:0], labels[:0], confidence[:0], 0.5)) == 0
    assert float(confident_cross_entropy(logits, torch.full_like(labels, 255), confidence, 0.5)) == 0
