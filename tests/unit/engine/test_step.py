"""Gradients of several terms."""

from __future__ import annotations

import torch

from fewlabel.core.collective import rank
from fewlabel.engine.step import apply_gradients, gradients_of, total_norm
from fewlabel.gradients.combine import Combiner, MeanCombiner
from kit.ranks import run_ranks


class FirstOnly(Combiner):
    """Keeps the first term's gradient: shows that terms reach the combiner apart."""

    def combine(self, names, gradients, generator):
        assert list(names) == ["w"]
        return list(gradients[0])


def _terms(w: torch.Tensor) -> dict[str, torch.Tensor]:
    shared = w.square()
    return {"a": shared.sum(), "b": 3 * shared.sum()}


def test_linear_combiner_gives_the_gradient_of_the_mean():
    w, unused = torch.tensor([1.0, -2.0], requires_grad=True), torch.ones(2, requires_grad=True)
    grads = gradients_of(_terms(w), ["w", "unused"], [w, unused], MeanCombiner(), torch.Generator())
    torch.testing.assert_close(grads[0], 2 * w.detach() * (1 + 3) / 2)
    assert grads[1] is None


def test_other_combiners_get_one_gradient_per_term():
    w, unused = torch.tensor([1.0, -2.0], requires_grad=True), torch.ones(2, requires_grad=True)
    grads = gradients_of(_terms(w), ["w", "unused"], [w, unused], FirstOnly(), torch.Generator())
    torch.testing.assert_close(grads[0], 2 * w.detach())
    assert grads[1] is None


def test_what_one_term_reaches_has_a_gradient_of_zero_from_the_others():
    w, other = torch.tensor([1.0, -2.0], requires_grad=True), torch.ones(2, requires_grad=True)
    terms = {"a": w.sum(), "b": w.sum() + other.sum()}
    seen = []

    class Notes(FirstOnly):
        def combine(self, names, gradients, generator):
            seen.extend(gradients)
            return list(gradients[1])

    first, second = gradients_of(terms, ["w", "other"], [w, other], Notes(), torch.Generator())
    assert [[part.tolist() for part in parts] for parts in seen] == [[[1, 1], [0, 0]], [[1, 1], [1, 1]]]
    assert (first.tolist(), second.tolist()) == ([1, 1], [1, 1])


def test_a_parameter_that_is_not_reached_keeps_its_value_under_adam():
    w, idle = torch.tensor([1.0, -2.0], requires_grad=True), torch.ones(2, requires_grad=True)
    optimiser = torch.optim.Adam([w, idle], lr=1e-2, weight_decay=1e-2)
    gradients = gradients_of(_terms(w), ["w", "idle"], [w, idle], MeanCombiner(), torch.Generator())
    apply_gradients([w, idle], gradients, total_norm(gradients), clip=None)
    optimiser.step()
    assert idle.tolist() == [1.0, 1.0]
    assert w.tolist() != [1.0, -2.0]


def what_a_rank_finds():
    """Rank 0 reaches the first two of three parameters, rank 1 the second alone."""
    parameters = [torch.ones(1, requires_grad=True) for _ in range(3)]
    loss = 4 * parameters[1].sum() + (2 * parameters[0].sum() if rank() == 0 else 0)
    return gradients_of({"loss": loss}, ["a", "b", "c"], parameters, MeanCombiner(), torch.Generator())


def test_a_parameter_that_one_rank_reaches_moves_on_all(tmp_path):
    for found in run_ranks(tmp_path, what_a_rank_finds):
        assert [None if part is None else part.item() for part in found] == [1.0, 4.0, None]


def test_clipping_keeps_the_direction_and_the_norm():
    w = torch.zeros(2, requires_grad=True)
    gradients = [torch.tensor([3.0, 4.0])]
    norm = total_norm(gradients)
    assert float(norm) == 5.0
    apply_gradients([w], gradients, norm, clip=1.0)
    torch.testing.assert_close(w.grad, torch.tensor([0.6, 0.8]), rtol=1e-5, atol=0)
    gentle = [torch.tensor([0.3, 0.4])]
    apply_gradients([w], gentle, total_norm(gentle), clip=1.0)
    torch.testing.assert_close(w.grad, torch.tensor([0.3, 0.4]))
