"""The Adam of a network beside the main one: torch.optim.Adam is the oracle; its state is buffers."""

from __future__ import annotations

import copy

import pytest
import torch

from fewlabel.core.collective import rank, world_size
from fewlabel.gradients.adam_state_as_buffers import InnerAdam
from kit.ranks import run_ranks

SHAPES = ((3, 4), (5,), (), (2, 1, 3, 3))


def tensors(seed=0):
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source, dtype=torch.float64) for shape in SHAPES]


def gradients(step):
    """Of very different sizes, and 0 for one tensor at some steps."""
    found = tensors(100 + step)
    return [10.0 ** (2 * index - 5) * gradient * (step % 3 != index) for index, gradient in enumerate(found)]


@pytest.mark.parametrize(("rate", "betas"), [(1e-3, (0.9, 0.999)), (1e-4, (0.9, 0.99)), (0.3, (0.0, 0.5))])
def test_it_moves_tensors_as_torch_does(rate, betas):
    ours, theirs = tensors(), [tensor.requires_grad_() for tensor in tensors()]
    adam, oracle = InnerAdam(ours, rate, betas), torch.optim.Adam(theirs, lr=rate, betas=betas)
    for step in range(25):
        for tensor, gradient in zip(theirs, gradients(step), strict=True):
            tensor.grad = gradient
        oracle.step()
        adam.step(ours, gradients(step))
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other.detach(), rtol=1e-12, atol=1e-14)
    assert int(adam.count) == 25


def test_the_first_step_is_the_rate_against_the_sign_of_the_gradient():
    tensor = torch.tensor([1.0, 1.0, 1.0], dtype=torch.float64)
    InnerAdam([tensor], 0.01).step([tensor], [torch.tensor([2.0, -3e4, 0.0], dtype=torch.float64)])
    torch.testing.assert_close(tensor, torch.tensor([0.99, 1.01, 1.0], dtype=torch.float64), rtol=1e-9, atol=0)


def test_gradients_stay_as_they_were_and_parameters_may_want_gradients():
    parameters = [torch.nn.Parameter(tensor) for tensor in tensors()]
    given = gradients(1)
    before = copy.deepcopy(given)
    InnerAdam(parameters, 0.1).step(parameters, given)
    assert all(torch.equal(a, b) for a, b in zip(given, before, strict=True))
    assert all(parameter.requires_grad and parameter.grad_fn is None for parameter in parameters)


def test_all_its_state_is_buffers_so_a_resumed_run_is_the_same_bit_by_bit():
    whole, resumed = tensors(), tensors()
    one, two = InnerAdam(whole, 0.01), InnerAdam(resumed, 0.01)
    assert not list(one.parameters())
    for step in range(3):
        one.step(whole, gradients(step))
        two.step(resumed, gradients(step))
    three = InnerAdam(tensors(5), 0.01)
    three.load_state_dict(copy.deepcopy(two.state_dict()), strict=True)
    for step in range(3, 6):
        one.step(whole, gradients(step))
        three.step(resumed, gradients(step))
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    assert all(torch.equal(one.state_dict()[name], value) for name, value in three.state_dict().items())
    assert {tuple(value.shape) for value in one.state_dict().values()} == set(SHAPES)


def test_it_finds_the_least_square():
    target, tensor = torch.tensor([1.0, -2.0, 3.0]), torch.zeros(3)
    adam = InnerAdam([tensor], 0.05)
    for _ in range(600):
        adam.step([tensor], [2 * (tensor - target)])
    torch.testing.assert_close(tensor, target, rtol=0, atol=1e-2)


def test_a_gradient_is_needed_for_every_tensor():
    ours = tensors()
    with pytest.raises(ValueError, match="zip"):
        InnerAdam(ours, 0.1).step(ours, gradients(0)[:2])


def moved():
    ours = tensors()
    adam = InnerAdam(ours, 0.01)
    for step in range(4):
        parts = [gradients(step), gradients(step + 50)]
        joined = [(a + b) / 2 for a, b in zip(*parts, strict=True)]
        mine = parts[rank()] if world_size() == 2 else joined
        before = copy.deepcopy(mine)
        adam.step(ours, mine)
        # What was given is not averaged in place.
        assert all(torch.equal(a, b) for a, b in zip(mine, before, strict=True))
    return ours, adam.state_dict()


def test_two_ranks_average_their_gradients(tmp_path):
    expected, state = moved()
    for found, other in run_ranks(tmp_path, moved):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-13, atol=1e-15)
        for key, value in state.items():
            torch.testing.assert_close(other[key], value, rtol=1e-13, atol=0)
