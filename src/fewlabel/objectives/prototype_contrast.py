"""Pixels against the mean of their class and against keys of other classes (ReCo, 2104.04465; ARCO, 2302.01735).

For unit vectors, a query q of class c, its class's prototype μ_c and negatives N_c, all of other classes::

    ℓ(q) = -log( e^{q·μ_c/τ} / ( e^{q·μ_c/τ} + Σ_{k∈N_c} e^{q·k/τ} ) )

The loss is the mean over queries of a class and over the classes that have any. (The paper prints a sum; its weight of
0.01 goes with the mean, which the public code takes.) Only queries receive gradients.

With all cosines equal ℓ = log(1 + |N|), and log(1 + |N| e^{-2/τ}) ≤ ℓ ≤ log(1 + |N| e^{2/τ}).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.full_precision import full_precision
from fewlabel.objectives.contrastive import similarity_logits


@torch.no_grad()
def class_means(rows: Tensor, labels: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """The prototype of each class, over the joined batch.

    Args:
        rows: (p, d) unit vectors of this rank.
        labels: (p,) int64; rows whose label is not in [0, classes) are left out.
        classes: Number of classes.

    Returns:
        (classes, d) means brought to unit length, 0 for an absent class; (classes,) int64 rows of each class.
    """
    with torch.autocast(rows.device.type, enabled=False):
        member = labels == torch.arange(classes, device=labels.device)[:, None]
        sums = sum_across(member.to(rows.dtype) @ rows)
        return functional.normalize(sums, dim=1), sum_across(member.sum(dim=1))


def prototype_logits(queries: Tensor, prototypes: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Similarities of queries to their prototype (first) and to the negatives of their class, over τ.

    Args:
        queries: (classes, n, d) unit vectors, the only ones that receive gradients.
        prototypes: (classes, d) unit vectors.
        negatives: (classes, k, d) unit vectors.
        temperature: τ > 0.

    Returns:
        (classes, n, 1 + k) in full precision.
    """
    keys = torch.cat([prototypes[:, None], negatives.to(prototypes)], dim=1).detach()
    return similarity_logits(queries, keys, temperature)


def prototype_contrast(logits: Tensor, counted: Tensor, own: Tensor | None = None) -> Tensor:
    """The loss above: this rank's share, whose mean over ranks is the loss of the joined batch.

    Args:
        logits: (classes, n, 1 + k) of :func:`prototype_logits`.
        counted: (classes,) bool, classes with queries, prototype and negatives; equal on all ranks.
        own: (classes, n) bool, queries of this rank; the others' logits may be anything finite. None for all.

    Returns:
        Scalar; 0 with a usable graph where no class counts.
    """
    losses = logits.logsumexp(dim=-1) - logits[..., 0]
    kept = counted[:, None] if own is None else counted[:, None] & own
    total = losses.masked_fill(~kept, 0).sum()
    return total * world_size() / (counted.sum() * losses.shape[1]).clamp_min(1)


def contrast_gradient(
    outputs: Tensor, prototypes: Tensor, negatives: Tensor, labels: Tensor, temperature: float
) -> Tensor:
    """∂ℓ/∂o of single queries in closed form, o the embedding before it is brought to unit length.

    With π the softmax over prototype and negatives and q = o/‖o‖: g = (Σ_k π_k k - μ_c)/τ, and ∂ℓ/∂o is the part of
    g across q, (g - (g·q) q)/‖o‖.

    Args:
        outputs: (p, d) embeddings o.
        prototypes: (classes, d) unit vectors.
        negatives: (classes, k, d) unit vectors.
        labels: (p,) int64 classes; rows whose label is not in [0, classes) get 0.
        temperature: τ.

    Returns:
        (p, d) in full precision, without gradient.
    """
    with torch.no_grad(), torch.autocast(outputs.device.type, enabled=False):
        outputs = full_precision(outputs)
        gradient = torch.zeros_like(outputs)
        for label in range(len(prototypes)):
            rows = (labels == label).nonzero().flatten()
            keys = torch.cat([prototypes[label, None], negatives[label].to(prototypes)])
            length = outputs[rows].norm(dim=1, keepdim=True).clamp_min(1e-12)
            unit = outputs[rows] / length
            weights = similarity_logits(unit, keys, temperature).softmax(dim=1)
            pull = (weights @ keys - keys[0]) / temperature
            gradient[rows] = (pull - (pull * unit).sum(dim=1, keepdim=True) * unit) / length
        return gradient


def similarity_mass(prototypes: Tensor, present: Tensor, temperature: float, available: Tensor) -> Tensor:
    """How often each class gives negatives to each, by likeness: softmax over others of μ_c·μ_j/τ (ReCo, Eq. 5).

    Args:
        prototypes: (classes, d) unit vectors.
        present: (classes,) bool, which of them are real.
        temperature: τ.
        available: (classes, classes) int64, keys of class j that class c may meet.

    Returns:
        (classes, classes) int64 for :func:`fewlabel.objectives.stratified_sampling.draw_places`;
        where no class that is present has keys, ``available`` itself.
    """
    logits = similarity_logits(prototypes, prototypes, temperature)
    usable = (available > 0) & present
    shares = logits.masked_fill(~usable, -torch.inf).softmax(dim=1).nan_to_num()
    # Whole numbers fine enough for a share of a millionth; a class in use is never quite left out.
    mass = (shares * 2**24).round().to(torch.int64).clamp_min(1) * usable
    return torch.where(usable.any(dim=1, keepdim=True), mass, available)
