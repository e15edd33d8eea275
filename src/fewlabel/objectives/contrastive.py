"""One contrastive loss for anchors and keys, with any positives, denominators and weights; always in float32.

For unit vectors z with similarities s_ij = z_i·z_j, positives P(i), weights w_ip and temperature τ::

    L = mean over anchors with |P(i)| > 0 of  -1/|P(i)| Σ_{p∈P(i)} w_ip log( e^{s_ip/τ} / Σ_{d∈Den(i,p)} e^{s_id/τ} )

* ``all``: Den = all candidates of the anchor, positives and negatives. With one positive this is NT-Xent (Chen et
  al., ICML 2020); with several it is the "out" form of supervised contrast (Khosla et al., NeurIPS 2020) and Eq. 1
  of GCL (arXiv 2309.08888). No factor τ/τ_base.
* ``pair_plus_neg``: Den = {p} ∪ the candidates that are no positives (Chaitanya et al., NeurIPS 2020; MoCo's queue
  is the case whose only negatives are the memory).
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.full_precision import full_precision

Denominator = Literal["all", "pair_plus_neg"]


def similarity_logits(anchors: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cosine similarities over temperature, in full precision even under autocast.

    Args:
        anchors: (..., a, d) unit vectors.
        keys: (..., k, d) unit vectors.
        temperature: τ > 0.

    Returns:
        (..., a, k) float32 (float64 for float64 inputs).
    """
    with torch.autocast(anchors.device.type, enabled=False):
        return full_precision(anchors) @ full_precision(keys).transpose(-1, -2) / temperature


def info_nce(
    logits: Tensor,
    positives: Tensor,
    candidates: Tensor,
    *,
    weights: Tensor | None = None,
    denominator: Denominator = "all",
) -> Tensor:
    """The loss above, as this rank's share of the mean over the anchors of all ranks.

    Args:
        logits: (a, k) similarities over temperature of this rank's anchors and all keys.
        positives: (a, k) bool, P(i); a subset of ``candidates``.
        candidates: (a, k) bool, keys that may enter the denominator; never the anchor itself.
        weights: (a, k) factors of pairs, 1 by default.
        denominator: ``all`` or ``pair_plus_neg``.

    Returns:
        Scalar; its mean over ranks is the loss on the joined batch. Anchors without positives are left out; a batch
        without any positive gives 0 with a usable graph.
    """
    with torch.autocast(logits.device.type, enabled=False):
        costs = pair_costs(logits, positives, candidates, denominator)
        if weights is not None:
            costs = costs * weights
        count = positives.sum(dim=1)
        losses = costs.masked_fill(~positives, 0).sum(dim=1) / count.clamp_min(1)
        return anchor_mean(losses, count > 0)


def pair_costs(logits: Tensor, positives: Tensor, candidates: Tensor, denominator: Denominator = "all") -> Tensor:
    """ℓ_ip = -log( e^{s_ip/τ} / Σ_{d∈Den(i,p)} e^{s_id/τ} ) for every anchor and key; meant for positive pairs.

    Args:
        logits: (a, k) similarities over temperature.
        positives: (a, k) bool.
        candidates: (a, k) bool.
        denominator: As in :func:`info_nce`.

    Returns:
        (a, k) in full precision.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = full_precision(logits)
        lowest = torch.finfo(logits.dtype).min
        if denominator == "all":
            return logits.masked_fill(~candidates, lowest).logsumexp(dim=1, keepdim=True) - logits
        negatives = logits.masked_fill(~candidates | positives, lowest).logsumexp(dim=1, keepdim=True)
        return functional.softplus(negatives - logits, threshold=50)


def anchor_mean(losses: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid anchors of all ranks: this rank's share, whose mean over ranks it is.

    Args:
        losses: (a,) loss of each anchor; 0 where not valid.
        valid: (a,) bool.
    """
    count = sum_across(valid.sum().to(losses.dtype))
    return losses.sum() * world_size() / count.clamp_min(1)


def collapsed_value(positives: Tensor, candidates: Tensor, denominator: Denominator = "all") -> float:
    """Loss when all similarities are equal: mean log |Den|.

    For two views of N slices and ``all`` this is log(2N-1), whatever the labels.

    Args:
        positives: (a, k) bool.
        candidates: (a, k) bool.
        denominator: As in :func:`info_nce`.
    """
    inside = candidates.sum(dim=1).double()
    if denominator == "pair_plus_neg":
        inside = 1 + (candidates & ~positives).sum(dim=1).double()
    valid = positives.any(dim=1)
    return float(inside[valid].log().mean()) if bool(valid.any()) else 0.0


def lower_bound(positives: Tensor) -> float:
    """What the loss with denominator ``all`` cannot fall below: mean log |P(i)| (GCL D.3).

    By Jensen: log Σ_{a∈A} e^{s_a} ≥ log Σ_{p∈P} e^{s_p} ≥ log |P| + mean_p s_p.
    """
    count = positives.sum(dim=1)
    count = count[count > 0].double()
    return float(count.log().mean()) if len(count) else 0.0


def pair_lower_bound(positives: Tensor, candidates: Tensor, temperature: float) -> float:
    """What the loss with denominator ``pair_plus_neg`` cannot fall below: mean log(1 + |N(i)| e^{-2/τ}).

    Args:
        positives: (a, k) bool.
        candidates: (a, k) bool.
        temperature: τ.
    """
    negatives = (candidates & ~positives).sum(dim=1)[positives.any(dim=1)].double()
    return float((negatives * math.exp(-2 / temperature)).log1p().mean()) if len(negatives) else 0.0
