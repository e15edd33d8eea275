"""Memories of past embeddings: a queue of keys that knows whose they are, and one vector per sample.

Both are buffers, so a checkpoint holds them. With several processes the rows given must be those of all ranks, so that
all ranks hold the same memory. Both are written in place: write after the backward pass of what was read.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.rng import torch_stream


class FifoQueue(nn.Module):
    """The last K keys, oldest overwritten first (MoCo, He et al. 2020), each with the id of its sample.

    It starts empty. The published queue starts with random vectors that count as negatives until they are overwritten,
    and asks that the batch divides K; here neither holds.

    Args:
        size: K.
        dim: Size of a key.

    Raises:
        ValueError: If size or dim is not positive.
    """

    keys: Tensor
    owners: Tensor
    pointer: Tensor
    filled: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1 or dim < 1:
            raise ValueError(f"a queue needs at least one place and one dimension, not {size} x {dim}")
        self.register_buffer("keys", torch.zeros(size, dim))
        self.register_buffer("owners", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor, owners: Tensor) -> None:
        """Put keys in, in order; of more than K the last K stay.

        Args:
            keys: (n, dim) any n; with several processes those of all ranks.
            owners: (n,) int64 ids of their samples.

        Raises:
            ValueError: If keys and owners are not equally many.
        """
        if len(keys) != len(owners):
            raise ValueError(f"{len(keys)} keys have {len(owners)} owners")
        size, count = len(self.keys), len(keys)
        skipped = max(count - size, 0)
        places = (self.pointer + torch.arange(skipped, count, device=self.pointer.device)) % size
        self.keys.index_copy_(0, places, keys[skipped:].detach().to(self.keys))
        self.owners.index_copy_(0, places, owners[skipped:].to(self.owners))
        self.pointer.copy_((self.pointer + count) % size)
        self.filled.copy_((self.filled + count).clamp_max(size))

    def candidates(self, owner_ids: Tensor) -> Tensor:
        """Places that may be negatives of an anchor: filled, and not a past key of its own sample.

        Args:
            owner_ids: (a,) int64 ids of the anchors' samples.

        Returns:
            (a, K) bool.
        """
        there = torch.arange(len(self.keys), device=self.filled.device) < self.filled
        return there & (owner_ids[:, None] != self.owners)


class SlotMemory(nn.Module):
    """One unit vector per sample, a moving average of its embeddings (PIRL, Misra & van der Maaten 2020).

    Args:
        slots: Number of samples.
        dim: Size of a vector.
        momentum: Share of the old vector in an update, in [0, 1].
        seed: Seed of the random unit vectors it starts with.

    Raises:
        ValueError: If the momentum is out of range, or slots or dim is not positive.
    """

    rows: Tensor

    def __init__(self, slots: int, dim: int, momentum: float, *, seed: int = 0) -> None:
        super().__init__()
        if slots < 1 or dim < 1:
            raise ValueError(f"a memory needs at least one slot and one dimension, not {slots} x {dim}")
        if not 0 <= momentum <= 1:
            raise ValueError(f"a momentum lies in [0, 1], not {momentum}")
        self.momentum = momentum
        start = torch.randn(slots, dim, generator=torch_stream(seed, "slot memory"))
        self.register_buffer("rows", functional.normalize(start, dim=1))

    def read(self, ids: Tensor) -> Tensor:
        """Vectors (n, dim) of samples (n,) int64, a copy."""
        return self.rows.index_select(0, ids)

    @torch.no_grad()
    def replaced(self, ids: Tensor, rows: Tensor, chosen: Tensor) -> Tensor:
        """A copy of all vectors (slots, dim) with new ones for some samples.

        Args:
            ids: (n,) int64 samples; of one that comes several times the last row counts.
            rows: (n, dim) unit vectors; with several processes those of all ranks.
            chosen: (n,) bool, which samples to replace; equal wherever a sample comes.
        """
        return self.rows.index_copy(0, ids, torch.where(chosen[:, None], self._last(ids, rows), self.read(ids)))

    @torch.no_grad()
    def update(self, ids: Tensor, rows: Tensor) -> None:
        """Set v to m v + (1-m) times the new row, brought back to unit length.

        Args:
            ids: (n,) int64 samples; of one that comes several times the last row counts.
            rows: (n, dim) their new embeddings; with several processes those of all ranks.
        """
        mixed = self.momentum * self.read(ids) + (1 - self.momentum) * self._last(ids, rows)
        self.rows.index_copy_(0, ids, functional.normalize(mixed, dim=1))

    def _last(self, ids: Tensor, rows: Tensor) -> Tensor:
        """Rows in which each is its sample's last: writing a place twice has no defined order on a GPU."""
        order = torch.arange(len(ids), device=ids.device)
        last = torch.where(ids[:, None] == ids, order, -1).amax(dim=1)
        return rows.detach().to(self.rows).index_select(0, last)
