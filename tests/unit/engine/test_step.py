"""Gradients of several terms."""

from __future__ import annotations

import torch

from fewlabel.engine.step import apply_gradients, gradients_of, total_norm
from fewlabel.gradients.combine import Combiner, MeanCombiner


class FirstOnly(Combiner):
    """Keeps the first term's gradient: shows that terms reach the combiner apart."""

    def combine(self, names, gradients, generator):
        assert list(names) == ["w", "unused"]
        return list(gradients[0])


def _terms(w: torch.Tensor) -> dict[str, torch.Tensor]:
    shared = w.square()
    return {"a": shared.sum(), "b": 3 * shared.sum()}


def test_linear_combiner_gives_the_gradient_of_the_mean():
    w, unused = torch.tensor([1.0, -2.0], requires_grad=True), torch.ones(2, requires_grad=True)
    grads = gradients_of(_terms(w), ["w", "unused"], [w, unused], MeanCombiner(), torch.Generator())
    torch.testing.assert_close(grads[0], 2 * w.detach() * (1 + 3) / 2)
    assert torch.count_nonzero(grads[1]) == 0


def test_other_combiners_get_one_gradient_per_term():
    w, unused = torch.tensor([1.0, -2.0], requires_grad=True), torch.ones(2, requires_grad=True)
    grads = gradients_of(_terms(w), ["w", "unused"], [w, unused], FirstOnly(), torch.Generator())
    torch.testing.assert_close(grads[0], 2 * w.detach())


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
