"""Contrast of queries with one positive key each and a queue of past keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.collective import gather
from fewlabel.core.full_precision import full_precision
from fewlabel.objectives.contrastive import info_nce, similarity_logits
from fewlabel.objectives.memory import FifoQueue


@dataclass(frozen=True)
class Maps:
    """Last maps of both encoders for one batch.

    Attributes:
        queries: (n, channels, *space) of the trained encoder for the first views, with gradient.
        keys: The same of the momentum encoder for the second views, detached.
        owners: (S,) int64 slices of the joined batch.
        mine: (n,) int64 where this rank's slices lie among them.
    """

    queries: Tensor
    keys: Tensor
    owners: Tensor
    mine: Tensor


class QueueContrast(nn.Module):
    """InfoNCE of queries with one positive key each and a queue of past keys as negatives (MoCo, Eq. 1).

    A slice without any past key of another slice, as in the first step, is held against the other slices' keys of the
    batch at hand: there would be no loss else.

    Args:
        size: K.
        dim: Size of a key.
        temperature: τ.
    """

    def __init__(self, size: int, dim: int, temperature: float) -> None:
        super().__init__()
        self.memory = FifoQueue(size, dim)
        self.temperature = temperature
        self._waiting: tuple[Tensor, Tensor] | None = None

    def loss(self, queries: Tensor, positives: Tensor, keys: Tensor, maps: Maps) -> Tensor:
        """This rank's share of the mean over all queries; the keys then wait for :meth:`push`.

        Args:
            queries: (n, p, dim) unit vectors of this rank, p per slice.
            positives: (n, p, dim) unit vectors, the key of each query.
            keys: (n, dim) unit vectors to be put into the queue, one per slice.
            maps: Whose they are.
        """
        joined = gather(keys.detach())
        allowed = self.negatives(maps.owners)[maps.mine]
        own = (full_precision(queries) * full_precision(positives)).sum(dim=-1, keepdim=True) / self.temperature
        negatives = torch.cat([self.memory.keys, joined.to(self.memory.keys)])
        logits = torch.cat([own, similarity_logits(queries, negatives, self.temperature)], dim=-1).flatten(0, 1)
        candidates = functional.pad(allowed, (1, 0), value=True).repeat_interleave(queries.shape[1], dim=0)
        first = torch.zeros_like(candidates)
        first[:, 0] = True
        self._waiting = (joined, maps.owners)
        return info_nce(logits, first, candidates)

    def negatives(self, owners: Tensor) -> Tensor:
        """(S, K + S) bool: which of the queue's and of the batch's keys are negatives of each slice (S,)."""
        past = self.memory.candidates(owners)
        current = (owners[:, None] != owners) & ~past.any(dim=1, keepdim=True)
        return torch.cat([past, current], dim=1)

    def push(self) -> None:
        """Put the keys of the last loss into the queue; nothing without one."""
        if self._waiting is not None:
            self.memory.push(*self._waiting)
        self._waiting = None
