"""Parts of semi-supervised losses: closed forms, slow loops, limits, precision, ranks."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from fewlabel.core.collective import rank, world_size
from fewlabel.objectives.semi_supervised_loss_parts import (
    entropy,
    log_probabilities,
    masked_mean,
    probabilities,
    ramp_up,
    squared_difference,
)
from kit.ranks import run_ranks


def logits(seed=0, shape=(3, 4, 5, 6), scale=3.0):
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestRamp:
    def test_golden_values(self):
        found = [ramp_up(step, 40) for step in (0, 10, 20, 30, 40, 41, 1000)]
        expected = [0.006737947, 0.060054667, 0.286504797, 0.731615629, 1.0, 1.0, 1.0]
        assert found == pytest.approx(expected, abs=1e-9)

    def test_it_grows_and_depends_on_the_share_of_the_length_alone(self):
        values = [ramp_up(step, 30) for step in range(40)]
        assert all(a < b for a, b in itertools.pairwise(values[:31]))
        assert [ramp_up(3 * step, 90) for step in range(40)] == pytest.approx(values, rel=1e-12)

    @pytest.mark.parametrize("length", [0, 0.0, -1])
    def test_without_length_there_is_no_ramp(self, length):
        assert ramp_up(0, length) == 1.0


class TestProbabilities:
    def test_they_are_the_exponentials_over_their_sum(self):
        x = logits()
        slow = torch.empty_like(x)
        for n, y, z in itertools.product(range(3), range(5), range(6)):
            powers = [math.exp(float(value)) for value in x[n, :, y, z]]
            slow[n, :, y, z] = torch.tensor([power / sum(powers) for power in powers], dtype=torch.float64)
        torch.testing.assert_close(probabilities(x), slow, rtol=1e-12, atol=0)
        torch.testing.assert_close(log_probabilities(x), slow.log(), rtol=1e-11, atol=1e-12)

    def test_half_precision_is_widened_first_even_under_autocast(self):
        x = logits(scale=1.0).bfloat16()
        for function in (probabilities, log_probabilities, entropy):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found = function(x)
            assert found.dtype == torch.float32
            assert torch.equal(found, function(x.float()))

    def test_logarithms_stay_finite_where_probabilities_vanish(self):
        x = torch.tensor([[0.0, -1e4, 1e4]]).view(1, 3, 1)
        assert probabilities(x).flatten().tolist() == [0.0, 0.0, 1.0]
        assert log_probabilities(x).flatten().tolist() == [-1e4, -2e4, 0.0]


class TestEntropy:
    def test_equals_a_slow_loop_and_lies_between_0_and_log_classes(self):
        x = logits()
        p = probabilities(x)
        slow = [-sum(float(v) * math.log(float(v)) for v in column) for column in p.movedim(1, -1).flatten(0, 2)]
        assert entropy(x).shape == (3, 5, 6)
        assert entropy(x).flatten().tolist() == pytest.approx(slow, rel=1e-10)
        assert 0 <= float(entropy(x).min()) <= float(entropy(x).max()) <= math.log(4)

    @pytest.mark.parametrize("classes", [2, 3, 7])
    def test_uniform_gives_log_classes_and_one_hot_0_both_with_gradient_0(self, classes):
        uniform = torch.full((1, classes, 2), 1.7, dtype=torch.float64, requires_grad=True)
        sure = torch.zeros(1, classes, 2, dtype=torch.float64)
        sure[:, 0] = 800.0
        sure.requires_grad_()
        assert entropy(uniform).detach().flatten().tolist() == pytest.approx([math.log(classes)] * 2, rel=1e-14)
        assert entropy(sure).detach().flatten().tolist() == [0.0, 0.0]
        for x in (uniform, sure):
            (gradient,) = torch.autograd.grad(entropy(x).sum(), x)
            torch.testing.assert_close(gradient, torch.zeros_like(x), rtol=0, atol=1e-15)

    def test_gradient_equals_finite_differences(self):
        assert torch.autograd.gradcheck(entropy, (logits(shape=(2, 3, 2)).requires_grad_(),))


def test_squared_difference_is_entry_by_entry_and_in_full_precision():
    a, b = torch.tensor([[1.0, -2.0]]), torch.tensor([[0.5, 1.0]])
    assert squared_difference(a, b).tolist() == [[0.25, 9.0]]
    found = squared_difference(a.bfloat16(), b)
    assert found.dtype == torch.float32
    assert squared_difference(a.double(), b.double()).dtype == torch.float64


class TestMaskedMean:
    def test_without_mask_or_with_all_it_is_the_mean(self):
        x = logits()
        torch.testing.assert_close(masked_mean(x), x.mean(), rtol=1e-14, atol=0)
        torch.testing.assert_close(masked_mean(x, torch.ones(3, 1, 5, 6, dtype=torch.bool)), x.mean())

    def test_equals_a_slow_loop_for_a_mask_over_all_classes_of_a_pixel(self):
        x = logits()
        mask = torch.rand(3, 1, 5, 6, generator=torch.Generator().manual_seed(1)) < 0.4
        picked = [
            float(x[n, c, y, z])
            for n, c, y, z in itertools.product(range(3), range(4), range(5), range(6))
            if mask[n, 0, y, z]
        ]
        assert float(masked_mean(x, mask)) == pytest.approx(sum(picked) / len(picked), rel=1e-12)

    def test_weights_weigh_and_their_scale_does_not_matter(self):
        values, weights = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 0.0, 3.0])
        assert float(masked_mean(values, weights)) == pytest.approx(4.0)
        assert float(masked_mean(values, 0.01 * weights)) == pytest.approx(4.0)

    def test_nowhere_is_0_with_a_graph_not_nan(self):
        x = logits().requires_grad_()
        found = masked_mean(x, torch.zeros(3, 1, 5, 6, dtype=torch.bool))
        assert float(found.detach()) == 0.0
        (gradient,) = torch.autograd.grad(found, x)
        assert not gradient.any()

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_a_value_that_is_not_finite_does_not_count_outside_the_mask(self, bad):
        x = torch.tensor([1.0, bad, 3.0], requires_grad=True)
        found = masked_mean(x, torch.tensor([True, False, True]))
        assert float(found.detach()) == 2.0
        (gradient,) = torch.autograd.grad(found, x)
        assert gradient.tolist() == [0.5, 0.0, 0.5]


def shares(values, masks):
    """Masked means of this rank's rows, and the gradient with respect to a common factor."""
    rows = slice(rank() * 2, rank() * 2 + 4 // world_size())
    found = []
    for mask in masks:
        scale = torch.ones((), dtype=torch.float64, requires_grad=True)
        term = masked_mean(values[rows] * scale, mask[rows])
        found.append(torch.stack([term.detach(), *torch.autograd.grad(term, scale)]))
    return found


def test_two_ranks_equal_one_process(tmp_path):
    values = logits(shape=(4, 3, 5))
    some = torch.rand(4, 1, 5, generator=torch.Generator().manual_seed(2)) < 0.3
    only_first, nowhere = some.clone(), torch.zeros_like(some)
    only_first[2:] = False
    assert int(some[:2].sum()) != int(some[2:].sum())
    masks = [some, only_first, nowhere]
    ranks = run_ranks(tmp_path, shares, values, masks)
    for expected, first, second in zip(shares(values, masks), *ranks, strict=True):
        torch.testing.assert_close((first + second) / 2, expected, rtol=1e-12, atol=1e-15)
