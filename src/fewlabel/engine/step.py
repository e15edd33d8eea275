"""One optimisation step: gradients of several loss terms, averaged over processes, combined, clipped, applied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Generator, Tensor

from fewlabel.core.collective import any_rank_each, average_gradients


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
) -> list[Tensor | None]:
    """The combined gradient of named terms; None for parameters that no term of any rank reaches.

    The optimiser leaves those alone. A gradient of 0 would not do: Adam's decay alone, divided by its own size, takes
    the weights of a stage's heads to 0 at the full rate while another stage trains.

    A linear combiner costs one backward pass through the mean of the terms; any other costs one pass per term over
    a shared forward pass. Each term's gradient is averaged over ranks *before* it is combined, so that all ranks
    decide on the same gradients (GCL, Alg. 1).

    Args:
        terms: Scalar losses of this rank.
        names: Parameter names.
        parameters: The tensors to differentiate with respect to, K of them.
        combiner: What reconciles the terms.
        generator: CPU generator of this step, equal on all ranks.

    Returns:
        K gradients, averaged over ranks and combined.
    """
    losses = list(terms.values())
    if combiner.linear or len(losses) == 1:
        losses = [torch.stack([loss.float() for loss in losses]).mean()]
    per_term = [
        torch.autograd.grad(loss, parameters, retain_graph=index < len(losses) - 1, allow_unused=True)
        for index, loss in enumerate(losses)
    ]
    reached = any_rank_each([any(part is not None for part in parts) for parts in zip(*per_term, strict=True)])
    kept = [index for index, there in enumerate(reached) if there]
    filled = [[_or_zeros(gradients[index], parameters[index]) for index in kept] for gradients in per_term]
    for gradients in filled:
        average_gradients(gradients)
    merged = filled[0] if len(filled) == 1 else combiner.combine([names[index] for index in kept], filled, generator)
    combined: list[Tensor | None] = [None] * len(parameters)
    for index, gradient in zip(kept, merged, strict=True):
        combined[index] = gradient
    return combined


def _or_zeros(gradient: Tensor | None, parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if gradient is None else gradient


def total_norm(gradients: Sequence[Tensor | None]) -> Tensor:
    """Euclidean norm over all gradients, float32; None stands for a parameter that was not reached."""
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
