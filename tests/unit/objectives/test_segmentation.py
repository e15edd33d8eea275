"""Segmentation losses: closed forms, slow loops, ignored pixels, absent classes, precision, ranks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fewlabel.core.collective import rank, world_size
from fewlabel.objectives.segmentation import cross_entropy, soft_dice_loss
from kit.ranks import run_ranks

#: Cross-entropy, Dice over the batch, Dice per slice; the slow loops below give the same.
GOLDEN = (1.232969, 0.607629, 0.594529)
OPTIONS = [(batch, background) for batch in (True, False) for background in (True, False)]


def example(seed=0, n=4, classes=3, size=(5, 6), ignored=0.2):
    """Logits and labels with ignored pixels and, in the last slice, no pixel of the last class."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, *size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (n, *size), generator=generator)
    labels[-1] = labels[-1].clamp(max=classes - 2)
    labels[torch.rand(labels.shape, generator=generator) < ignored] = 255
    return logits, labels


def slow_cross_entropy(logits, labels):
    total, count = 0.0, 0
    for n in range(len(labels)):
        for y in range(labels.shape[1]):
            for x in range(labels.shape[2]):
                label = int(labels[n, y, x])
                if label != 255:
                    scores = [math.exp(float(v)) for v in logits[n, :, y, x]]
                    total -= math.log(scores[label] / sum(scores))
                    count += 1
    return total / count


def slow_dice(logits, labels, batch, background, smooth=1.0):
    probabilities = logits.softmax(dim=1)
    groups = [range(len(labels))] if batch else [[n] for n in range(len(labels))]
    losses = []
    for group in groups:
        for label in range(0 if background else 1, logits.shape[1]):
            overlap = predicted = true = 0.0
            for n in group:
                for y in range(labels.shape[1]):
                    for x in range(labels.shape[2]):
                        if int(labels[n, y, x]) != 255:
                            p, t = float(probabilities[n, label, y, x]), float(labels[n, y, x] == label)
                            overlap, predicted, true = overlap + p * t, predicted + p, true + t
            if true:
                losses.append(1 - (2 * overlap + smooth) / (predicted + true + smooth))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", [0, 1])
def test_cross_entropy_equals_a_slow_loop(seed):
    logits, labels = example(seed)
    assert float(cross_entropy(logits, labels)) == pytest.approx(slow_cross_entropy(logits, labels), rel=1e-5)


@pytest.mark.parametrize(("batch", "background"), OPTIONS)
def test_dice_equals_a_slow_loop(batch, background):
    logits, labels = example()
    found = soft_dice_loss(logits, labels, batch=batch, background=background)
    assert float(found) == pytest.approx(slow_dice(logits, labels, batch, background), rel=1e-5)


def test_dice_equals_monai_where_both_apply():
    from monai.losses import DiceLoss

    logits, labels = example(ignored=0.0)
    labels[:, 0, 0] = 2
    for batch, background in OPTIONS:
        theirs = DiceLoss(
            include_background=background, to_onehot_y=True, softmax=True, batch=batch, smooth_nr=1.0, smooth_dr=1.0
        )(logits.float(), labels[:, None])
        ours = soft_dice_loss(logits, labels, batch=batch, background=background)
        assert float(ours) == pytest.approx(float(theirs), rel=1e-5)


def test_equal_logits_in_closed_form():
    labels = torch.arange(4).repeat(6).view(1, 4, 6)
    logits = torch.zeros(1, 4, 4, 6)
    assert float(cross_entropy(logits, labels)) == pytest.approx(math.log(4), rel=1e-6)
    # p = 1/4 everywhere, each class 6 of 24 pixels: Dice = (2·6/4 + s) / (24/4 + 6 + s).
    assert float(soft_dice_loss(logits, labels, smooth=0.5)) == pytest.approx(1 - 3.5 / 12.5, rel=1e-6)


@pytest.mark.parametrize(("batch", "background"), OPTIONS)
def test_a_perfect_prediction_costs_nothing(batch, background):
    _, labels = example(classes=4)
    perfect = 40.0 * torch.nn.functional.one_hot(torch.where(labels == 255, 0, labels), 4).movedim(3, 1).float()
    assert float(cross_entropy(perfect, labels)) < 1e-6
    assert float(soft_dice_loss(perfect, labels, batch=batch, background=background)) < 1e-6
    worst = perfect.roll(1, dims=1)
    assert float(cross_entropy(worst, labels)) > 30
    assert float(soft_dice_loss(worst, labels, batch=batch, background=background)) > 0.7


@pytest.mark.parametrize(("batch", "background"), OPTIONS)
def test_ignored_pixels_change_neither_value_nor_gradient(batch, background):
    logits, labels = example()
    changed = logits.clone()
    changed[(labels == 255)[:, None].expand_as(logits)] += 7.0
    changed[:, 0][labels == 255] -= 3.0
    for loss in (cross_entropy, lambda x, y: soft_dice_loss(x, y, batch=batch, background=background)):
        first, second = logits.clone().requires_grad_(), changed.requires_grad_()
        a, b = loss(first, labels), loss(second, labels)
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
        (gradient,) = torch.autograd.grad(a, first)
        assert not gradient.movedim(1, 3)[labels == 255].any()
        assert bool(gradient.movedim(1, 3)[labels != 255].any())


@pytest.mark.parametrize("batch", [True, False])
def test_nothing_labelled_is_zero_with_a_graph(batch):
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.full((2, 4, 4), 255)
    loss = cross_entropy(logits, labels) + soft_dice_loss(logits, labels, batch=batch, background=True)
    assert float(loss.detach()) == 0
    loss.backward()
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_class_that_does_not_occur_is_left_out_of_dice():
    logits, labels = example(classes=4)
    labels[labels == 3] = 1
    found = soft_dice_loss(logits, labels)
    assert float(found) == pytest.approx(slow_dice(logits, labels, True, False), rel=1e-5)
    # All background: no foreground class occurs at all.
    assert float(soft_dice_loss(logits, torch.zeros_like(labels))) == 0


def test_the_better_prediction_costs_less():
    _, labels = example(ignored=0.0)
    truth = torch.nn.functional.one_hot(labels, 3).movedim(3, 1).float()
    losses = [(cross_entropy(s * truth, labels), soft_dice_loss(s * truth, labels)) for s in (0.0, 1.0, 2.0, 4.0)]
    for worse, better in itertools.pairwise(losses):
        assert float(better[0]) < float(worse[0])
        assert float(better[1]) < float(worse[1])


@pytest.mark.parametrize(("batch", "background"), OPTIONS)
def test_order_of_slices_and_pixels_does_not_matter(batch, background):
    logits, labels = example()
    order = torch.tensor([2, 0, 3, 1])
    for loss in (cross_entropy, lambda x, y: soft_dice_loss(x, y, batch=batch, background=background)):
        expected = float(loss(logits, labels))
        assert float(loss(logits[order], labels[order])) == pytest.approx(expected, rel=1e-6)
        assert float(loss(logits.flip(3), labels.flip(2))) == pytest.approx(expected, rel=1e-6)
        # The same pixels as a line or a block.
        assert float(loss(logits.flatten(2), labels.flatten(1))) == pytest.approx(expected, rel=1e-6)
        assert float(loss(logits.unflatten(3, (2, 3)), labels.unflatten(2, (2, 3)))) == pytest.approx(
            expected, rel=1e-6
        )


@pytest.mark.parametrize("batch", [True, False])
def test_gradient_equals_finite_differences(batch):
    logits, labels = example(n=2, size=(3, 3))
    for loss in (cross_entropy, lambda x, y: soft_dice_loss(x, y, batch=batch)):
        free = logits.float().requires_grad_()
        (gradient,) = torch.autograd.grad(loss(free, labels), free)
        step = 1e-2
        for place in ((0, 0, 0, 0), (0, 2, 1, 1), (1, 1, 2, 0), (1, 0, 2, 2)):
            up, down = logits.clone(), logits.clone()
            up[place] += step
            down[place] -= step
            slope = (float(loss(up, labels)) - float(loss(down, labels))) / (2 * step)
            assert float(gradient[place]) == pytest.approx(slope, abs=3e-5)


def test_golden_values():
    logits = torch.linspace(-3, 3, 2 * 3 * 4 * 4).sin().mul(2).view(2, 3, 4, 4)
    labels = (torch.arange(32) % 3).view(2, 4, 4)
    labels[0, 0] = 255
    assert float(cross_entropy(logits, labels)) == pytest.approx(GOLDEN[0], rel=1e-5)
    assert float(soft_dice_loss(logits, labels)) == pytest.approx(GOLDEN[1], rel=1e-5)
    assert float(soft_dice_loss(logits, labels, batch=False)) == pytest.approx(GOLDEN[2], rel=1e-5)


def test_half_precision_logits_are_judged_in_float32():
    logits, labels = example(size=(32, 32))
    rounded = logits.bfloat16()
    for loss in (cross_entropy, soft_dice_loss):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = loss(rounded, labels)
        assert found.dtype == torch.float32
        assert torch.equal(found, loss(rounded.float(), labels))
    huge = torch.full((1, 2, 8, 8), 3e4, dtype=torch.bfloat16).requires_grad_()
    total = cross_entropy(huge, torch.ones(1, 8, 8, dtype=torch.int64)) + soft_dice_loss(
        huge, torch.ones(1, 8, 8, dtype=torch.int64)
    )
    total.backward()
    assert bool(torch.isfinite(total))
    assert huge.grad is not None
    assert bool(torch.isfinite(huge.grad).all())


def shares(batches):
    """Losses on this rank's rows and the gradient of their sum with respect to shared weights."""
    found = {}
    for name, (logits, labels) in batches.items():
        share = len(labels) // world_size()
        rows = slice(rank() * share, (rank() + 1) * share)
        scale = torch.ones(logits.shape[1], requires_grad=True)
        mine = logits[rows].float() * scale[:, None, None]
        terms = [
            cross_entropy(mine, labels[rows]),
            *(soft_dice_loss(mine, labels[rows], batch=b) for b in (True, False)),
        ]
        (gradient,) = torch.autograd.grad(sum(terms), scale)
        found[name] = [torch.stack(terms).detach(), gradient]
    return found


def test_two_ranks_equal_one_process(tmp_path):
    logits, labels = example()
    # Very unequal ranks: the first has few labelled pixels, and only the second knows class 2.
    labels[:2, 1:] = 255
    labels[:2][labels[:2] == 2] = 1
    empty = labels.clone()
    empty[:2] = 255
    batches = {"unequal": (logits, labels), "first rank empty": (logits, empty)}
    ranks = run_ranks(tmp_path, shares, batches)
    for name, (terms, gradient) in shares(batches).items():
        for number, expected in enumerate((terms, gradient)):
            joined = (ranks[0][name][number] + ranks[1][name][number]) / 2
            torch.testing.assert_close(joined, expected, rtol=1e-5, atol=1e-6)
