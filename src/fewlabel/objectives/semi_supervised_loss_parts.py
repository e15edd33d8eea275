"""Parts of semi-supervised losses: probabilities, masked means, differences, entropy, and the ramp of their weight.

All are computed in float32 or better whatever the autocast, and as parts of the joined batch: the mean of what the
ranks return is the value of one process on all rows (see ``fewlabel.core.collective``).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.full_precision import full_precision


def ramp_up(step: int, length: float) -> float:
    """exp(-5 (1 - t)²) with t = min(step / length, 1) (Laine & Aila, ICLR 2017); 1 for a length of 0."""
    if length <= 0:
        return 1.0
    return math.exp(-5 * (1 - min(step / length, 1.0)) ** 2)


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over classes (axis 1), in full precision."""
    with torch.autocast(logits.device.type, enabled=False):
        return full_precision(logits).softmax(dim=1)


def log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over classes (axis 1), in full precision; finite where :func:`probabilities` may be 0."""
    with torch.autocast(logits.device.type, enabled=False):
        return functional.log_softmax(full_precision(logits), dim=1)


def masked_mean(values: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean over the joined batch of the values where a mask holds: this rank's share.

    Args:
        values: Any shape, the same on all ranks.
        mask: Broadcastable to it, bool or weights ≥ 0; None for a plain mean.

    Returns:
        Scalar; 0 with a usable graph where the mask holds nowhere on any rank.
    """
    if mask is None:
        return values.mean()
    weights = mask.to(values.dtype).expand_as(values)
    total = sum_across(weights.sum().detach()) / world_size()
    # Not values * weights alone: a value that is not finite must not count where its weight is 0.
    kept = torch.where(weights > 0, values * weights, torch.zeros_like(values))
    return kept.sum() / torch.where(total > 0, total, torch.ones_like(total))


def squared_difference(first: Tensor, second: Tensor) -> Tensor:
    """Σ over nothing: (p - q)² entry by entry, in full precision."""
    return (full_precision(first) - full_precision(second)).square()


def entropy(logits: Tensor) -> Tensor:
    """H(p) = -Σ p log p over classes (axis 1) in nats: (n, *space), from 0 to log(classes)."""
    logs = log_probabilities(logits)
    return -(logs.exp() * logs).sum(dim=1)
