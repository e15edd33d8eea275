"""Gradients of several terms as vectors: inner products and weighted means, tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Size, Tensor


@dataclass(frozen=True)
class FlatGradients:
    """One parameter's gradients as M vectors that share one order of their numbers, views where layouts agree.

    Attributes:
        vectors: M vectors of n numbers.
        shape: Shape of the parameter.
        stride: Strides that give the vectors this shape again.
    """

    vectors: list[Tensor]
    shape: Size
    stride: tuple[int, ...]

    @classmethod
    def of(cls, parts: Sequence[Tensor]) -> FlatGradients:
        """From the M gradients of one parameter."""
        first = parts[0]
        if _is_dense(first) and all(part.stride() == first.stride() for part in parts):
            return cls([part.as_strided((part.numel(),), (1,)) for part in parts], first.shape, first.stride())
        stride = torch.empty(first.shape, device="meta").stride()
        return cls([part.reshape(-1) for part in parts], first.shape, stride)

    def mean(self, weights: Sequence[float]) -> Tensor:
        """Σ_m weight_m g_m / M in the parameter's shape; unit weights give the plain mean to the last bit."""
        total = self.vectors[0] * weights[0]
        for vector, weight in zip(self.vectors[1:], weights[1:], strict=True):
            total.add_(vector, alpha=weight)
        return total.div_(len(self.vectors)).as_strided(self.shape, self.stride)


def gram_matrices(gradients: Sequence[FlatGradients]) -> Tensor:
    """Inner products of each parameter's M gradients: (K, M, M) float64 on the CPU.

    Products are summed in float32 (float64 for float64 gradients), each to about one part in a million.
    """
    terms = len(gradients[0].vectors)
    rows, columns = torch.tril_indices(terms, terms).tolist()
    products: list[Tensor] = []
    for flat in gradients:
        vectors = [v if v.dtype in (torch.float32, torch.float64) else v.float() for v in flat.vectors]
        products.extend(torch.dot(vectors[a], vectors[b]) for a, b in zip(rows, columns, strict=True))
    lower = torch.stack(products).to("cpu", torch.float64).view(len(gradients), -1)
    gram = lower.new_zeros(len(gradients), terms, terms)
    gram[:, rows, columns] = lower
    gram[:, columns, rows] = lower
    return gram


def _is_dense(tensor: Tensor) -> bool:
    if tensor.is_contiguous():
        return True
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return tensor.dim() in formats and tensor.is_contiguous(memory_format=formats[tensor.dim()])
