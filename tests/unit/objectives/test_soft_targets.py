"""Cross-entropy and Dice for targets that are shares: one-hot targets, closed forms, slow loops, ranks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn import functional

from fewlabel.core.collective import rank, world_size
from fewlabel.objectives.segmentation import (
    cross_entropy,
    soft_dice_loss,
    soft_target_cross_entropy,
    soft_target_dice,
)
from kit.ranks import run_ranks

OPTIONS = list(itertools.product((True, False), repeat=2))
#: Cross-entropy, Dice over the batch, Dice per slice of the example below.
GOLDEN = (1.1138837886, 0.6107157597, 0.6074780157)


def example(seed=0, n=4, classes=3, size=(5, 6), ignored=0.2):
    """Logits, targets that sum to 1 where known and are 0 elsewhere, and where they are known."""
    source = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, *size, generator=source, dtype=torch.float64)
    target = torch.rand(n, classes, *size, generator=source, dtype=torch.float64)
    target[-1, -1] = 0
    known = torch.rand(n, *size, generator=source) >= ignored
    return logits, target / target.sum(dim=1, keepdim=True) * known[:, None], known


def hard(seed=0):
    logits, _, known = example(seed)
    labels = torch.randint(0, 3, known.shape, generator=torch.Generator().manual_seed(seed + 1)).masked_fill(
        ~known, 255
    )
    labels[-1][labels[-1] == 2] = 1
    target = torch.stack([labels == label for label in range(3)], dim=1).double()
    return logits, labels, target, known


def pixels(known):
    return [tuple(place) for place in known.nonzero().tolist()]


def slow_cross_entropy(logits, target, known):
    costs = []
    for n, y, x in pixels(known):
        scores = [math.exp(float(value)) for value in logits[n, :, y, x]]
        shares = target[n, :, y, x].tolist()
        costs.append(-sum(share * math.log(score / sum(scores)) for share, score in zip(shares, scores, strict=True)))
    return sum(costs) / len(costs)


def slow_dice(logits, target, known, batch, background, smooth=1.0):
    p = logits.softmax(dim=1)
    groups = [range(len(p))] if batch else [[n] for n in range(len(p))]
    weighed, weights = 0.0, 0.0
    for group, label in itertools.product(groups, range(0 if background else 1, p.shape[1])):
        places = [(n, y, x) for n, y, x in pixels(known) if n in group]
        predicted = sum(float(p[n, label, y, x]) for n, y, x in places)
        true = sum(float(target[n, label, y, x]) for n, y, x in places)
        overlap = sum(float(p[n, label, y, x] * target[n, label, y, x]) for n, y, x in places)
        weight = min(true, 1.0)
        weighed += weight * (1 - (2 * overlap + smooth) / (predicted + true + smooth))
        weights += weight
    return weighed / max(weights, 1)


def test_cross_entropy_of_one_hot_targets_is_the_usual_one():
    logits, labels, target, known = hard()
    found = soft_target_cross_entropy(logits, target, known)
    torch.testing.assert_close(found, cross_entropy(logits, labels), rtol=1e-12, atol=0)


@pytest.mark.parametrize(("batch", "background"), OPTIONS)
def test_dice_of_one_hot_targets_is_the_usual_one(batch, background):
    logits, labels, target, known = hard()
    found = soft_target_dice(logits, target, known, batch=batch, background=background, smooth=2.0)
    expected = soft_dice_loss(logits, labels, batch=batch, background=background, smooth=2.0)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_cross_entropy_equals_a_slow_loop():
    logits, target, known = example()
    found = soft_target_cross_entropy(logits, target, known)
    assert float(found) == pytest.approx(slow_cross_entropy(logits, target, known), rel=1e-10)


@pytest.mark.parametrize(("batch", "background"), OPTIONS)
def test_dice_equals_a_slow_loop(batch, background):
    logits, target, known = example()
    target[:, 1] *= 0.001
    found = soft_target_dice(logits, target, known, batch=batch, background=background)
    assert float(found) == pytest.approx(slow_dice(logits, target, known, batch, background), rel=1e-10)


def test_cross_entropy_with_everything_known_equals_that_of_torch():
    logits, target, known = example(ignored=0.0)
    expected = functional.cross_entropy(logits, target)
    torch.testing.assert_close(soft_target_cross_entropy(logits, target, known), expected)


def test_cross_entropy_is_linear_in_the_target_and_least_where_they_agree():
    logits, target, known = example()
    other = target.flip(1)
    ends = [soft_target_cross_entropy(logits, end, known) for end in (target, other)]
    middle = soft_target_cross_entropy(logits, 0.3 * target + 0.7 * other, known)
    torch.testing.assert_close(middle, 0.3 * ends[0] + 0.7 * ends[1], rtol=1e-12, atol=0)
    best = target.clamp_min(1e-30).log()
    disorder = -(torch.xlogy(target, target)).sum() / known.sum()
    torch.testing.assert_close(soft_target_cross_entropy(best, target, known), disorder, rtol=1e-8, atol=0)
    assert float(soft_target_cross_entropy(best + 0.1 * logits, target, known)) > float(disorder)


def test_a_class_with_next_to_no_share_counts_next_to_nothing():
    logits, target, known = example(ignored=0.0)
    target[:, 2], target[:, 0] = 0, target[:, 0] + target[:, 2]
    without = soft_target_dice(logits, target, known)
    target[:, 2] = 1e-9
    torch.testing.assert_close(soft_target_dice(logits, target, known), without, rtol=1e-6, atol=0)


@pytest.mark.parametrize("batch", [True, False])
def test_nothing_known_is_zero_with_a_graph(batch):
    logits, target, known = example()
    logits.requires_grad_()
    nowhere = torch.zeros_like(known)
    loss = soft_target_cross_entropy(logits, target * 0, nowhere)
    loss = loss + soft_target_dice(logits, target * 0, nowhere, batch=batch, background=True)
    assert float(loss.detach()) == 0
    (gradient,) = torch.autograd.grad(loss, logits)
    assert not gradient.any()


def test_unknown_pixels_change_neither_value_nor_gradient():
    logits, target, known = example()
    for loss in (soft_target_cross_entropy, soft_target_dice):
        first = logits.clone().requires_grad_()
        second = torch.where(known[:, None], logits, logits.flip(1) + 3).requires_grad_()
        a, b = loss(first, target, known), loss(second, target, known)
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
        (gradient,) = torch.autograd.grad(a, first)
        assert not gradient.movedim(1, 3)[~known].any()
        assert bool(gradient.movedim(1, 3)[known].any())


def test_half_precision_logits_are_judged_in_float32():
    logits, target, known = example()
    for loss in (soft_target_cross_entropy, soft_target_dice):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(logits.bfloat16(), target, known)
        assert found.dtype == torch.float32
        assert torch.equal(found, loss(logits.bfloat16().float(), target, known))


def test_golden_values():
    logits = torch.linspace(-3, 3, 2 * 3 * 4 * 4, dtype=torch.float64).sin().mul(2).view(2, 3, 4, 4)
    target = torch.linspace(0, 9, 2 * 3 * 4 * 4, dtype=torch.float64).cos().view(2, 3, 4, 4).softmax(dim=1)
    known = torch.ones(2, 4, 4, dtype=torch.bool)
    known[0, 0] = False
    target = target * known[:, None]
    found = (
        soft_target_cross_entropy(logits, target, known),
        soft_target_dice(logits, target, known),
        soft_target_dice(logits, target, known, batch=False),
    )
    assert [float(value) for value in found] == pytest.approx(GOLDEN, rel=1e-9)


def shares(logits, target, known):
    rows = slice(rank() * 2, rank() * 2 + 4 // world_size())
    scale = torch.ones(3, dtype=torch.float64, requires_grad=True)
    mine = logits[rows] * scale[:, None, None]
    terms = [soft_target_cross_entropy(mine, target[rows], known[rows])]
    terms += [soft_target_dice(mine, target[rows], known[rows], batch=batch) for batch in (True, False)]
    return [torch.stack(terms).detach(), *torch.autograd.grad(sum(terms), scale)]


def test_two_ranks_equal_one_process(tmp_path):
    logits, target, known = example()
    known[0], known[1, :2] = False, False
    target = target * known[:, None]
    target[:2, 2] *= 0.01
    ranks = run_ranks(tmp_path, shares, logits, target, known)
    for first, second, expected in zip(*ranks, shares(logits, target, known), strict=True):
        torch.testing.assert_close((first + second) / 2, expected, rtol=1e-12, atol=1e-14)
