"""Virtual adversarial directions: the worst one is found, and the distance is zero for equal predictions alone."""

from __future__ import annotations

import math

import pytest
import torch

from fewlabel.objectives.vat import dice_distance, unit_size, worst_direction


def chances(seed=0, shape=(2, 3, 4, 4)):
    source = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=source, dtype=torch.float64).softmax(dim=1)


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (1, 2, 2, 3, 4)])
def test_distance_is_one_minus_dice_with_squares(shape):
    p, q = chances(0, shape), chances(1, shape)
    expected = 0.0
    for c in range(shape[1]):
        both = sum(float(a * b) for a, b in zip(p[:, c].flatten(), q[:, c].flatten(), strict=True))
        size = sum(float(a * a + b * b) for a, b in zip(p[:, c].flatten(), q[:, c].flatten(), strict=True))
        expected += 1 - (2 * both + 0.5) / (size + 0.5)
    assert float(dice_distance(p, q, 0.5)) == pytest.approx(expected / shape[1], rel=1e-11)


def test_distance_is_zero_for_equal_one_for_disjoint_and_symmetric():
    p, q = chances(0), chances(1)
    assert float(dice_distance(p, p)) == 0
    assert float(dice_distance(p, q)) == pytest.approx(float(dice_distance(q, p)), rel=1e-14)
    one = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    one[:, 0] = 1
    assert float(dice_distance(one, one.flip(1))) == pytest.approx(1, abs=1e-5)


def test_an_absent_class_does_no_harm():
    one = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    one[:, 0] = 1
    again = one.clone().requires_grad_()
    loss = dice_distance(again, one)
    assert float(loss.detach()) == 0
    assert bool(torch.autograd.grad(loss, again)[0].isfinite().all())


@pytest.mark.parametrize("shape", [(3, 1, 4, 5), (2, 2, 3, 4, 2)])
def test_unit_size_has_a_root_mean_square_of_one(shape):
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows[1] = 0
    found = unit_size(rows)
    assert math.sqrt(float(found[0].square().mean())) == pytest.approx(1)
    torch.testing.assert_close(found[0] / found[0].abs().max(), rows[0] / rows[0].abs().max())
    assert not found[1].any()


def problem(weights, probe=1e-4):
    """Predictions that see the image along one direction only, different in each pixel."""
    images = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def predict(rows):
        score = (rows * weights).sum(dim=(1, 2, 3), keepdim=True).expand(-1, 1, 4, 4)
        return torch.cat([score, -score], dim=1).softmax(dim=1)

    start = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return predict, images, predict(images).detach(), start, probe


def test_the_direction_is_the_one_that_the_prediction_sees():
    weights = torch.linspace(-1, 2, 16, dtype=torch.float64).view(1, 1, 4, 4)
    predict, images, target, start, probe = problem(weights)
    found = worst_direction(predict, images, target, start, probe)
    expected = unit_size(weights)[0]
    for row in range(2):
        sign = torch.sign((found[row] * expected).sum())
        torch.testing.assert_close(found[row], sign * expected, rtol=1e-6, atol=1e-8)
    assert not found.requires_grad


def test_the_gradient_is_taken_one_probe_away():
    predict, images, target, start, _ = problem(torch.ones(1, 1, 4, 4, dtype=torch.float64))
    seen = []

    def spy(rows):
        seen.append(rows.detach() - images)
        return predict(rows)

    worst_direction(spy, images, target, start, 0.3)
    torch.testing.assert_close(torch.cat(seen), 0.3 * unit_size(start))


def test_it_moves_predictions_more_than_chance_does():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Tanh(), torch.nn.Conv2d(4, 3, 1)).double()
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)

    def predict(rows):
        return net(rows).softmax(dim=1)

    target = predict(images).detach()
    source = torch.Generator().manual_seed(1)
    starts = [torch.randn(images.shape, generator=source, dtype=torch.float64) for _ in range(20)]
    worst = worst_direction(predict, images, target, starts[0], 0.1)
    far = float(dice_distance(predict(images + 0.1 * worst), target).detach())
    others = [float(dice_distance(predict(images + 0.1 * unit_size(start)), target).detach()) for start in starts]
    assert far > 1.5 * max(others)


def test_weights_get_no_gradient_from_the_search():
    torch.manual_seed(0)
    net = torch.nn.Conv2d(1, 2, 3, padding=1).double()
    images = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    target = net(images).softmax(dim=1).detach()
    with torch.no_grad():
        worst_direction(lambda rows: net(rows).softmax(dim=1), images, target, torch.randn_like(images), 0.1)
    assert all(tensor.grad is None for tensor in net.parameters())


def test_where_nothing_changes_there_is_no_direction():
    predict, images, target, start, probe = problem(torch.zeros(1, 1, 4, 4, dtype=torch.float64))
    assert not worst_direction(predict, images, target, start, probe).any()
