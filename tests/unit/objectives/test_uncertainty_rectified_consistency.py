"""Rectified consistency: a slow loop, closed forms, the direction of the divergence, one-hot predictions."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fewlabel.objectives.uncertainty_rectified_consistency import LOWEST, rectified_consistency

#: Of the example below.
GOLDEN = 0.4654889814


def logs(scales=3, rows=2, classes=4, space=(3, 5), seed=0):
    source = torch.Generator().manual_seed(seed)
    shape = (scales, rows, classes, *space)
    return list((1.5 * torch.randn(shape, generator=source, dtype=torch.float64)).log_softmax(dim=2))


def slow(given):
    """Over scales, pixels and classes."""
    scales, total = len(given), 0.0
    rows, classes, *space = given[0].shape
    places = list(itertools.product(range(rows), *map(range, space)))
    chances = [[[math.exp(one[(n, c, *p)]) for c in range(classes)] for n, *p in places] for one in given]
    for one in chances:
        above = below = spread = 0.0
        for pixel, here in enumerate(one):
            mean = [sum(other[pixel][c] for other in chances) / scales for c in range(classes)]
            divergence = sum(m * (math.log(m) - math.log(p)) for m, p in zip(mean, here, strict=True))
            weight = math.exp(-divergence)
            assert divergence >= -1e-12
            assert 0 < weight <= 1 + 1e-12
            above += weight * sum((p - m) ** 2 for m, p in zip(mean, here, strict=True)) / classes
            below += weight
            spread += divergence
        total += above / below + spread / len(places)
    return total / scales


@pytest.mark.parametrize("space", [(3, 5), (2, 3, 2)])
@pytest.mark.parametrize("scales", [2, 4])
def test_it_is_the_slow_loop(scales, space):
    given = logs(scales, space=space)
    assert float(rectified_consistency(given)) == pytest.approx(slow(given), rel=1e-11)


def test_golden_value():
    assert float(rectified_consistency(logs())) == pytest.approx(GOLDEN, rel=1e-8)


def test_equal_scales_cost_nothing():
    one = logs()[0]
    assert float(rectified_consistency([one] * 4)) == pytest.approx(0, abs=1e-14)
    assert float(rectified_consistency(logs())) > 0.1


def test_the_mean_is_the_truth_of_the_divergence():
    # p = (½, ½) and (a, 1-a): a divergence the other way round has another value.
    a = 0.9
    given = [torch.tensor(p, dtype=torch.float64).log().view(1, 2, 1, 1) for p in ([0.5, 0.5], [a, 1 - a])]
    mean = [(0.5 + a) / 2, (1.5 - a) / 2]
    cost = 0.0
    for chances in ([0.5, 0.5], [a, 1 - a]):
        cost += sum((p - m) ** 2 for p, m in zip(chances, mean, strict=True)) / 2
        cost += sum(m * math.log(m / p) for p, m in zip(chances, mean, strict=True))
    wrong = sum(p * math.log(p / m) for chances in ([0.5, 0.5], [a, 1 - a]) for p, m in zip(chances, mean, strict=True))
    assert float(rectified_consistency(given)) == pytest.approx(cost / 2, rel=1e-12)
    right = sum(m * math.log(m / p) for chances in ([0.5, 0.5], [a, 1 - a]) for p, m in zip(chances, mean, strict=True))
    assert abs(right - wrong) > 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_one_hot_predictions_that_disagree_are_finite(dtype):
    one = torch.full((1, 3, 2, 2), -torch.inf, dtype=dtype)
    other = one.clone()
    one[:, 0], other[:, 1] = 0, 0
    given = [one.requires_grad_(), other.requires_grad_()]
    loss = rectified_consistency(given)
    # Each is half the mean: D = ½ log ½ + ½ (log ½ - lowest), and weights cancel.
    assert float(loss.detach()) == pytest.approx((0.25 + 0.25) / 3 - math.log(2) - LOWEST / 2, rel=1e-5)
    assert all(bool(gradient.isfinite().all()) for gradient in torch.autograd.grad(loss, given))
    same = rectified_consistency([one, one])
    assert float(same.detach()) == pytest.approx(0, abs=1e-6)


def test_pixels_where_scales_are_unsure_count_less():
    given = logs(2, rows=1, space=(1, 2))
    # Pixel 0: equal up to a little. Pixel 1: far apart.
    near = given[0][..., 0] + torch.tensor([0.1, -0.1, 0.0, 0.0], dtype=torch.float64).view(1, 4, 1)
    given[1] = torch.stack([near.log_softmax(dim=1), given[1][..., 1]], dim=-1)
    found = float(rectified_consistency(given))
    mean = (given[0].exp() + given[1].exp()) / 2
    plain = sum(float((one.exp() - mean).square().mean()) for one in given) / 2
    spread = sum(float((mean * (mean.log() - one)).sum(dim=1).mean()) for one in given) / 2
    assert found < plain + spread


def test_gradients_are_those_of_differences():
    given = [one.requires_grad_() for one in logs(2, rows=1, classes=2, space=(1, 2))]
    assert torch.autograd.gradcheck(lambda *parts: rectified_consistency(parts), given)
