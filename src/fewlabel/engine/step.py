"""One optimisation step: gradients of several loss terms, averaged over processes, combined, clipped, applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor, nn

from fewlabel.core.collective import average_gradients


class CombinesGradients(Protocol):
    """How gradients of several terms become one (``fewlabel.gradients.combine.Combiner``)."""

    linear: bool

    def combine(
        self, names: Sequence[str], gradients: Sequence[Sequence[Tensor]], generator: Generator
    ) -> list[Tensor]:
        """K tensors from one sequence of K tensors per term."""


def gradients_of(
    terms: Mapping[str, Tensor],
    names: Sequence[str],
    parameters: Sequence[Tensor],
    combiner: CombinesGradients,
    generator: Generator,
) -> list[Tensor]:
    """The combined gradient of named terms.

    A linear combiner costs one backward pass through the mean of the terms; any other costs one pass per term over
    a shared forward pass. Each term's gradient is averaged over ranks *before* it is combined, so that all ranks
    decide on the same gradients (GCL, Alg. 1).

    Args:
        terms: Scalar losses of this rank.
        names: Parameter names.
        parameters: The tensors to differentiate with respect to, K of them.
        combiner: What reconciles the terms.
        generator: CPU generator of this step, equal on all ranks.
    """
    losses = list(terms.values())
    if combiner.linear or len(losses) == 1:
        total = torch.stack([loss.float() for loss in losses]).mean()
        gradients = list(torch.autograd.grad(total, parameters, materialize_grads=True))
        average_gradients(gradients)
        return gradients
    per_term = []
    for index, loss in enumerate(losses):
        more = index < len(losses) - 1
        part = list(torch.autograd.grad(loss, parameters, retain_graph=more, materialize_grads=True))
        average_gradients(part)
        per_term.append(part)
    return combiner.combine(names, per_term, generator)


def gradients_of_awake(
    terms: Mapping[str, Tensor],
    names: Sequence[str],
    parameters: Sequence[Tensor],
    resting: Sequence[nn.Module],
    combiner: CombinesGradients,
    generator: Generator,
) -> list[Tensor | None]:
    """As :func:`gradients_of`, with None for the parameters of resting modules, which the optimiser then leaves alone.

    A gradient of 0 would not do: Adam's decay alone, divided by its own size, takes weights to 0 at the full rate.
    """
    asleep = {tensor for module in resting for tensor in module.parameters()}
    awake = [index for index, tensor in enumerate(parameters) if tensor not in asleep]
    found = gradients_of(
        terms, [names[index] for index in awake], [parameters[index] for index in awake], combiner, generator
    )
    gradients: list[Tensor | None] = [None] * len(parameters)
    for index, gradient in zip(awake, found, strict=True):
        gradients[index] = gradient
    return gradients


def total_norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """Euclidean norm over all gradients, float32; None stands for a parameter that rests."""
    norms: tuple[Tensor, ...] = torch._foreach_norm([gradient for gradient in gradients if gradient is not None])
    return torch.as_tensor(torch.linalg.vector_norm(torch.stack(norms).float()))


def apply_gradients(
    parameters: Sequence[Tensor], gradients: Sequence[Tensor | None], norm: Tensor, clip: float | None
) -> None:
    """Put gradients in place, scaled down to the norm ``clip`` if larger.

    A parameter whose gradient is None is not touched by the optimiser at all: no decay, no momentum.
    """
    if clip is not None:
        scale = torch.clamp(clip / (norm + 1e-6), max=1.0)
        torch._foreach_mul_([gradient for gradient in gradients if gradient is not None], scale)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
