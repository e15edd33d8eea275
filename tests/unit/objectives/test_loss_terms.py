"""Weighted parts of a loss, and those whose weight is 0."""

from __future__ import annotations

import pytest
import torch

from fewlabel.objectives.loss_terms import weighted_sum


def test_the_sum_and_its_gradient_are_those_of_the_formula():
    first, second = (torch.tensor(number, requires_grad=True) for number in (3.0, 5.0))
    total = weighted_sum((0.5, first), (2.0, second))
    assert total.item() == 11.5
    assert [part.item() for part in torch.autograd.grad(total, (first, second))] == [0.5, 2.0]


def test_a_part_of_weight_0_has_no_gradient_even_if_it_is_infinite():
    first, second = torch.tensor(3.0, requires_grad=True), torch.tensor(float("inf"), requires_grad=True)
    total = weighted_sum((1.0, first), (0.0, second))
    assert total.item() == 3.0
    assert torch.autograd.grad(total, (first, second), allow_unused=True)[1] is None


def test_something_must_be_learnt():
    with pytest.raises(ValueError, match="not 0"):
        weighted_sum((0.0, torch.tensor(1.0)))
