"""Supervised segmentation losses: cross-entropy and soft Dice over the pixels that have a label.

Both are computed in full precision whatever the autocast, and as parts of the joined batch: the mean of what the ranks
return is the loss of one process on all slices (see ``fewlabel.core.collective``).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.full_precision import full_precision

#: Label of pixels that a loss ignores.
IGNORE = 255


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy over labelled pixels.

    Args:
        logits: (n, classes, *space).
        labels: (n, *space) int64 class indices or :data:`IGNORE`.

    Returns:
        Scalar float32 ≥ 0; 0 with a usable graph if no pixel is labelled.
    """
    with torch.autocast(logits.device.type, enabled=False):
        total = functional.cross_entropy(full_precision(logits), labels, ignore_index=IGNORE, reduction="sum")
        count = sum_across((labels != IGNORE).sum().float()) / world_size()
        return total / count.clamp_min(1.0 / world_size())


def soft_dice_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    batch: bool = True,
    background: bool = False,
    smooth: float = 1.0,
) -> Tensor:
    """One minus the mean soft Dice of the classes that occur (Milletari et al., 3DV 2016, without squares).

    Dice of a class is (2 Σ p·t + s) / (Σ p + Σ t + s) over labelled pixels. A class that no labelled pixel has is
    left out of the mean: its Dice would be a matter of s alone, and cross-entropy already punishes inventing it.

    Args:
        logits: (n, classes, *space).
        labels: (n, *space) int64 class indices or :data:`IGNORE`.
        batch: Sum over the joined batch before the ratio; else a Dice per slice and class, averaged over those
            that occur. With few labels a slice often lacks a class or has a few pixels of it; the batch is steadier.
        background: Count class 0 too.
        smooth: s, in pixels.

    Returns:
        Scalar float32 in [0, 1]; 0 with a usable graph if no class occurs.
    """
    flat = labels.flatten(1)[:, None]
    target = flat == torch.arange(logits.shape[1], device=labels.device)[:, None]
    known = flat[:, 0] != IGNORE
    return soft_target_dice(logits, target, known, batch=batch, background=background, smooth=smooth)


def soft_target_cross_entropy(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Mean of -Σ t log p over known pixels; :func:`cross_entropy` where the targets are one-hot.

    Args:
        logits: (n, classes, *space).
        target: (n, classes, *space), ≥ 0, summing to 1 over classes where known.
        known: (n, *space) bool; pixels that count.

    Returns:
        Scalar float32 ≥ 0; 0 with a usable graph if no pixel is known.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logs = functional.log_softmax(full_precision(logits), dim=1)
        costs = -(target.to(logs) * logs).sum(dim=1)
        count = sum_across(known.sum().float()) / world_size()
        return (costs * known).sum() / count.clamp_min(1.0 / world_size())


def soft_target_dice(
    logits: Tensor,
    target: Tensor,
    known: Tensor,
    *,
    batch: bool = True,
    background: bool = False,
    smooth: float = 1.0,
) -> Tensor:
    """:func:`soft_dice_loss` for targets that may be shares: (2 Σ p·t + s) / (Σ p + Σ t + s) over known pixels.

    A class counts in the mean with the weight min(Σ t, 1), which for one-hot targets is whether it occurs. Where
    targets are shares the loss of a perfect prediction p = t is not 0, as with every such form of soft Dice.

    Args:
        logits: (n, classes, *space).
        target: (n, classes, *space), or with space flattened, in [0, 1] or bool; 0 where not known.
        known: (n, *space) bool, or with space flattened; pixels that count.
        batch: As there.
        background: As there.
        smooth: As there.
    """
    with torch.autocast(logits.device.type, enabled=False):
        probabilities = full_precision(logits).softmax(dim=1).flatten(2)
        target = target.flatten(2).to(probabilities)
        present = target.sum(dim=2)
        overlap = torch.einsum("ncp,ncp->nc", probabilities, target)
        size = torch.einsum("ncp,np->nc", probabilities, known.flatten(1).to(probabilities)) + present
        if batch:
            overlap, size, present = (sum_across(part.sum(dim=0, keepdim=True)) for part in (overlap, size, present))
        if not background:
            overlap, size, present = overlap[:, 1:], size[:, 1:], present[:, 1:]
        weight = present.clamp(max=1)
        missed = 1 - (2 * overlap + smooth) / (size + smooth)
        count = weight.sum() if batch else sum_across(weight.sum()) / world_size()
        return (missed * weight).sum() / count.clamp_min(1.0 / world_size())
