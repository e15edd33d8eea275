"""Supervised contrast between the pixels of a set: same class attracts, the rest repels (SSCL, Hu et al., 2021).

Anchors u are foreground pixels with at least one positive. P(u) are the other pixels of u's class, N(u) those of other
classes, background included. For unit vectors with s_ua = f_u·f_a/τ the loss is the mean over anchors of

* ``code``: ``-1/|P| Σ_{p∈P} log( e^{s_up} / Σ_{a≠u} e^{s_ua} )``, supervised contrast in its "out" form;
* ``paper``: ``-1/|P| log( Σ_{p∈P} e^{s_up} / Σ_{n∈N} e^{s_un} )``, which needs a negative and can be below 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fewlabel.core.full_precision import full_precision
from fewlabel.objectives.contrastive import info_nce, similarity_logits
from fewlabel.objectives.positives import others, same_id

ClassForm = Literal["code", "paper"]


@dataclass(frozen=True)
class PixelSet:
    """Pixels that are compared with each other.

    Attributes:
        labels: (k,) int64 classes; 0 is background.
        positives: (k,) int64, |P| of each pixel.
        negatives: (k,) int64, |N| of each pixel.
        anchors: (k,) bool, whether the pixel is an anchor under the form at hand.
    """

    labels: Tensor
    positives: Tensor
    negatives: Tensor
    anchors: Tensor


def pixel_set(labels: Tensor, form: ClassForm = "code") -> PixelSet:
    """Count positives and negatives of each pixel from classes (k,), and choose the anchors."""
    size = torch.bincount(labels)[labels]
    anchors = (labels > 0) & (size > 1)
    if form == "paper":
        anchors &= size < len(labels)
    return PixelSet(labels, size - 1, len(labels) - size, anchors)


def class_contrast(rows: Tensor, pixels: PixelSet, own: Tensor, temperature: float, form: ClassForm = "code") -> Tensor:
    """The loss of one set.

    Args:
        rows: (k, d) unit vectors of all pixels of the set.
        pixels: Their classes.
        own: (k,) bool, pixels of this rank. ``code`` compares those of all ranks and gives this rank's share, whose
            mean over ranks is the loss; ``paper`` is for sets of one rank and gives their loss.
        temperature: τ > 0.
        form: See the module.

    Returns:
        Scalar in full precision; 0 with a usable graph where no pixel is an anchor.
    """
    anchors = (pixels.anchors & own).nonzero().flatten()
    logits = similarity_logits(rows[anchors], rows, temperature)
    positives, candidates = same_id(pixels.labels, anchors), others(anchors, len(rows))
    if form == "code":
        return info_nce(logits, positives, candidates)
    lowest = torch.finfo(logits.dtype).min
    attracted = logits.masked_fill(~positives, lowest).logsumexp(dim=1)
    repelled = logits.masked_fill(positives | ~candidates, lowest).logsumexp(dim=1)
    losses = full_precision(repelled - attracted) / pixels.positives[anchors]
    return losses.sum() / max(len(anchors), 1)


def collapsed_value(pixels: PixelSet, form: ClassForm = "code") -> float:
    """The loss if all rows were equal: log(k-1), or the mean of log(|N|/|P|)/|P|; 0 without an anchor."""
    positives, negatives = (part[pixels.anchors].double() for part in (pixels.positives, pixels.negatives))
    if form == "code":
        return _mean((positives + negatives).log())
    return _mean((negatives / positives).log() / positives)


def lower_bound(pixels: PixelSet, temperature: float, form: ClassForm = "code") -> float:
    """What the loss cannot fall below: the mean of log|P|, or of (log(|N|/|P|) - 2/τ)/|P|; 0 without an anchor."""
    positives, negatives = (part[pixels.anchors].double() for part in (pixels.positives, pixels.negatives))
    if form == "code":
        return _mean(positives.log())
    return _mean(((negatives / positives).log() - 2 / temperature) / positives)


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
