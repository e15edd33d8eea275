"""The recursion of GradMitigator on Gram matrices, for all parameter tensors at once (GCL Alg. 1, Eq. 3 and 4).

For each label i and every other label j, in a random order: φ = cos(g'_i, g_j), the current modified gradient of i
against the *original* of j. If φ is below the target φ̂_ij, g'_i += w g_j with

    w = ‖g'_i‖ (φ̂ √(1-φ²) - φ √(1-φ̂²)) / (‖g_j‖ √(1-φ̂²))          (law of sines)

after which cos(g'_i, g_j) = φ̂. Then, whether or not that happened, φ̂_ij ← (1-β) φ̂_ij + β φ with φ as measured before.
The result is the *mean* of the g'_i. A target of 0 is PCGrad (Yu et al., NeurIPS 2020); the sum instead of the mean is
GradVac (Wang et al., ICLR 2021, arXiv 2010.05874), whose published setting, targets from 0 and β 0.01, is the default.

Everything happens in Gram form: with G = J Jᵀ of the M gradients of a tensor, g'_i is a row of M coefficients, so the
recursion runs on (tensors, M, M) arrays in float64 on the CPU and touches the gradients only twice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

#: Gradients no longer than this are neither modified nor do they move targets.
_VANISHED = 1e-12
#: A gradient that modification brought down to rounding error has no direction any more.
_ANNIHILATED = 1e-6
#: Targets are held this far from ±1, where the weight has a pole.
_MARGIN = 1e-6


@dataclass(frozen=True)
class Mitigation:
    """Result of the recursion for K groups of M gradients.

    Attributes:
        coefficients: (K, M, M); row i expresses g'_i by the original gradients.
        targets: (K, M, M) φ̂ after the update.
        cosines: (K, M, M) φ as compared with the target; 0 where not compared.
        gains: (K, M, M) ‖g'_i‖ after over before meeting j; 1 where unchanged.
        compared: (K, M, M) bool; False on the diagonal and where a gradient vanishes.
        below: (K, M, M) bool, φ was below its target.
    """

    coefficients: Tensor
    targets: Tensor
    cosines: Tensor
    gains: Tensor
    compared: Tensor
    below: Tensor


def visiting_order(groups: int, terms: int, generator: Generator) -> Tensor:
    """A fresh random order of the other terms for every group and term: (K, M, M-1) int64."""
    ranks = torch.rand(groups, terms, terms, generator=generator)
    ranks.diagonal(dim1=1, dim2=2).fill_(2.0)
    return ranks.argsort(dim=-1)[..., : terms - 1]


def mitigate(
    gram: Tensor,
    targets: Tensor,
    order: Tensor,
    *,
    beta: float,
) -> Mitigation:
    """The recursion of the module on K groups at once.

    Args:
        gram: (K, M, M) float64 inner products of the M gradients.
        targets: (K, M, M) float64 φ̂ before the step.
        order: (K, M, M-1) int64, for each group and i the other labels in the order to visit.
        beta: Weight of the new cosine in the moving average.
    """
    terms = gram.shape[1]
    targets = targets.clone()
    coefficients = torch.eye(terms, dtype=gram.dtype).expand_as(gram).clone()
    lengths = gram.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    floor = (lengths * _ANNIHILATED).clamp_min(_VANISHED)
    cosines = torch.zeros_like(gram)
    gains = torch.ones_like(gram)
    compared = torch.zeros_like(gram, dtype=torch.bool)
    below = torch.zeros_like(compared)
    # Each i meets original gradients only, so all i advance together.
    for visit in range(terms - 1):
        other = order[..., visit : visit + 1]
        products = coefficients @ gram
        own = (coefficients * products).sum(dim=-1).clamp_min(0).sqrt()
        length = lengths.gather(1, other.squeeze(-1))
        live = (own > floor) & (length > _VANISHED)
        safe = torch.where(live, own * length, torch.ones_like(own))
        phi = (products.gather(-1, other).squeeze(-1) / safe).clamp(-1, 1)
        target = targets.gather(-1, other).squeeze(-1)
        goal = target.clamp(_MARGIN - 1, 1 - _MARGIN)
        fires = live & (phi < goal)
        ratio = torch.where(live, own / torch.where(live, length, torch.ones_like(length)), torch.zeros_like(own))
        share = goal * (1 - phi.square()).sqrt() / (1 - goal.square()).sqrt() - phi
        share = torch.where(fires, share, torch.zeros_like(share))
        coefficients.scatter_add_(-1, other, (share * ratio).unsqueeze(-1))
        gain = (1 + share * (2 * phi + share)).clamp_min(0).sqrt()
        moved = torch.where(live, (1 - beta) * target + beta * phi, target)
        targets.scatter_(-1, other, moved.unsqueeze(-1))
        cosines.scatter_(-1, other, torch.where(live, phi, torch.zeros_like(phi)).unsqueeze(-1))
        gains.scatter_(-1, other, gain.unsqueeze(-1))
        compared.scatter_(-1, other, live.unsqueeze(-1))
        below.scatter_(-1, other, fires.unsqueeze(-1))
    return Mitigation(coefficients, targets, cosines, gains, compared, below)


def original_cosines(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines (K, M, M) between the original gradients, 0 where undefined, and where they are defined off-diagonal."""
    lengths = gram.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    live = lengths > _VANISHED
    valid = live[:, :, None] & live[:, None, :] & ~torch.eye(gram.shape[1], dtype=torch.bool)
    scale = torch.where(valid, lengths[:, :, None] * lengths[:, None, :], torch.ones_like(gram))
    return torch.where(valid, (gram / scale).clamp(-1, 1), torch.zeros_like(gram)), valid
