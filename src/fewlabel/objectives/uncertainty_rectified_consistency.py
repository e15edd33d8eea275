"""Uncertainty-rectified consistency of several predictions for the same pixels (Luo et al., MICCAI 2021)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fewlabel.core.collective import sum_across, world_size

#: Logarithms of probabilities are not taken below that of the smallest normal float32.
LOWEST = math.log(torch.finfo(torch.float32).tiny)


def rectified_consistency(logs: Sequence[Tensor]) -> Tensor:
    """How far S predictions are from their mean p̄, where they are sure.

    With D_s = Σ_c p̄ (log p̄ - log p_s) ≥ 0 at each pixel, the divergence KL(p̄ ‖ p_s) that takes p̄ as the truth::

        L = 1/S Σ_s [ Σ_pixels mean_c (p_s - p̄)² e^{-D_s} / Σ_pixels e^{-D_s}  +  mean_pixels D_s ]

    The second term keeps the network from being unsure everywhere. Gradients flow through p̄ and the weights too.

    Args:
        logs: S log-probabilities (n, classes, *space); -inf is read as :data:`LOWEST`.

    Returns:
        Scalar ≥ 0: this rank's share. 0 for equal predictions.
    """
    stacked = torch.stack(list(logs)).clamp_min(LOWEST)
    mean_log = stacked.logsumexp(dim=0) - math.log(len(stacked))
    single, mean = stacked.exp(), mean_log.exp()
    divergence = (mean * (mean_log - stacked)).sum(dim=2)
    weight = torch.exp(-divergence)
    distance = (single - mean).square().mean(dim=2)
    pixels = tuple(range(1, divergence.dim()))
    total = sum_across(weight.sum(dim=pixels)) / world_size()
    rectified = (distance * weight).sum(dim=pixels) / total
    return (rectified + divergence.mean(dim=pixels)).mean()
