"""Contrast of an embedding with one remembered vector per slice (PIRL): negatives, losses and the memory's upkeep."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from fewlabel.objectives.contrastive import similarity_logits
from fewlabel.objectives.memory import SlotMemory

Contrast = Literal["nce", "info_nce"]


def slot_costs(logits: Tensor, positives: Tensor, negatives: Tensor, contrast: Contrast) -> Tensor:
    """-log h(p) and, for ``nce``, - Σ_n log(1 - h(n)) besides, with h the softmax over positive and negatives.

    Args:
        logits: (a, k) similarities over temperature, full precision.
        positives: (a, k) bool, exactly one per row.
        negatives: (a, k) bool, without the positive.
        contrast: ``nce`` (Misra & van der Maaten, CVPR 2020) or ``info_nce``, its first part.

    Returns:
        (a,) ≥ 0, finite for any logits.
    """
    lowest = torch.finfo(logits.dtype).min
    inside = logits.masked_fill(~(positives | negatives), lowest)
    total = inside.logsumexp(dim=1, keepdim=True)
    costs = (total - inside).masked_fill(~positives, 0).sum(dim=1)
    if contrast == "info_nce":
        return costs
    # Only the largest h can come near 1, where 1 - h cancels: its complement is summed up instead.
    largest = torch.zeros_like(positives).scatter_(1, inside.detach().argmax(dim=1, keepdim=True), value=True)
    complement = inside.masked_fill(largest, lowest).logsumexp(dim=1, keepdim=True) - total
    small = torch.log1p(-(inside - total).exp().masked_fill(largest, 0))
    return costs - torch.where(largest, complement, small).masked_fill(~negatives, 0).sum(dim=1)


def lowest_cost(negatives: int, temperature: float, contrast: Contrast) -> float:
    """What the cost cannot fall below: similarity 1 to the positive and -1 to all negatives."""
    ratio = math.exp(-2 / temperature)
    total = math.log1p(negatives * ratio)
    if contrast == "info_nce":
        return total
    # h is convex in every negative, so equal negatives are best; 1 - h(n) = (1 + (N-1) r) / (1 + N r).
    return total + negatives * (total - math.log1p((negatives - 1) * ratio))


class SlotContrast(nn.Module):
    """A memory of one vector per slice of the store, and the loss against it.

    Negatives are slots of slices that have been drawn at least once, this batch included. A store also holds slices
    that never take part, whose slots would stay random for good. On its first visit a slice's slot is its embedding of
    the step itself, so no random vector is ever seen.

    Args:
        slots: Slices of the store.
        taking_part: Slices in pre-training; no anchor can have more negatives than these less itself.
        dim: Size of a vector.
        momentum: Share of the old vector in an update.
        temperature: τ.
        negatives: Most negatives per anchor, drawn without replacement.
        contrast: See :func:`slot_costs`.
    """

    drawn: Tensor

    def __init__(
        self,
        slots: int,
        taking_part: int,
        *,
        dim: int,
        momentum: float,
        temperature: float,
        negatives: int,
        contrast: Contrast,
    ) -> None:
        super().__init__()
        self.memory = SlotMemory(slots, dim, momentum)
        self.register_buffer("drawn", torch.zeros(slots, dtype=torch.bool))
        self.taking_part = taking_part
        self.temperature = temperature
        self.negatives = negatives
        self.contrast: Contrast = contrast

    def choose(self, joined: Tensor, mine: Tensor, generator: Generator) -> Tensor:
        """Negatives of this rank's anchors.

        Args:
            joined: (s,) int64 slices of the joined batch.
            mine: (n,) int64 rows of this rank in it.
            generator: CPU generator; nothing is drawn where all slots fit.

        Returns:
            (n, slots) bool, equally many in each row.
        """
        known = self.drawn.index_fill(0, joined, value=True)
        own = joined[mine]
        allowed = known & (torch.arange(len(known), device=known.device) != own[:, None])
        if self.negatives >= self.taking_part - 1:
            return allowed
        scores = torch.rand(len(joined), len(known), generator=generator)[mine.cpu()].to(known.device)
        best = scores.masked_fill(~allowed, -1).topk(min(self.negatives, len(known)), dim=1).indices
        return torch.zeros_like(allowed).scatter_(1, best, value=True) & allowed

    def seen(self, joined: Tensor, rows: Tensor) -> Tensor:
        """The slots as a step sees them: of slices that were never drawn before, the embeddings of this step.

        Args:
            joined: (s,) int64 slices of the joined batch; of one that comes several times the last row counts.
            rows: (s, dim) unit vectors of these slices, of all ranks.

        Returns:
            (slots, dim) without gradient; the memory itself stays as it is.
        """
        return self.memory.replaced(joined, rows, ~self.drawn[joined])

    def loss(self, rows: Tensor, own: Tensor, negatives: Tensor, slots: Tensor) -> Tensor:
        """Mean cost of unit vectors (n, dim) of slices (n,); its mean over ranks is that of the joined batch.

        Args:
            rows: (n, dim) unit vectors.
            own: (n,) int64 their slices.
            negatives: (n, slots) bool from ``choose``.
            slots: (slots, dim) from ``seen``.
        """
        logits = similarity_logits(rows, slots, self.temperature)
        positives = torch.arange(logits.shape[1], device=logits.device) == own[:, None]
        return slot_costs(logits, positives, negatives, self.contrast).mean()

    def remember(self, joined: Tensor, rows: Tensor) -> None:
        """Move the slots of slices (s,) towards unit vectors (s, dim) of all ranks, and set those never drawn before.

        Call it after the backward pass.
        """
        # Towards what they are already: slots of a first visit stay.
        self.memory.rows.copy_(self.seen(joined, rows))
        self.memory.update(joined, rows)
        self.drawn.index_fill_(0, joined, value=True)
