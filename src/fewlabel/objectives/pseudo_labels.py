"""A teacher's predictions as labels, and the loss on them that trusts a slice as far as the teacher is sure of it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.full_precision import full_precision
from fewlabel.objectives.segmentation import IGNORE
from fewlabel.objectives.semi_supervised_loss_parts import probabilities


@torch.no_grad()
def pseudo_labels(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The likeliest class of each pixel, (n, *space) int64, and its probability, of logits (n, classes, *space)."""
    confidence, labels = probabilities(logits).max(dim=1)
    return labels, confidence


def confident_cross_entropy(logits: Tensor, labels: Tensor, confidence: Tensor, threshold: float) -> Tensor:
    """Cross-entropy weighted, slice by slice, by the share of its pixels that the teacher is sure of (ReCo, code).

    ``Σ_i w_i Σ_p CE(i, p) / |pixels|``, w_i the share of slice i's pixels with confidence ≥ threshold. All pixels of
    a slice are learnt from, not only the sure ones: sure pixels alone would leave out every border.

    Args:
        logits: (n, classes, *space) of the student.
        labels: (n, *space) int64; 255 is left out of everything.
        confidence: (n, *space) of the teacher.
        threshold: Above 1 the loss is 0; at 0 it is plain cross-entropy.

    Returns:
        Scalar: this rank's share of the mean over the pixels of the joined batch; 0 without pixels.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        known = (labels != IGNORE).flatten(1)
        sure = known & (confidence >= threshold).flatten(1)
        share = sure.sum(dim=1).to(logits) / known.sum(dim=1).clamp_min(1)
        losses = functional.cross_entropy(logits, labels, ignore_index=IGNORE, reduction="none").flatten(1).sum(dim=1)
        count = sum_across(known.sum().to(logits.dtype)) / world_size()
        return (share * losses).sum() / count.clamp_min(1 / world_size())
