"""Watches what share of the pixels is labelled as each class, for runs that learn from labels of their own making."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewlabel.core.collective import sum_across


class ClassShares(nn.Module):
    """Moving shares of the classes among pseudo-labels, held against what they were at the beginning.

    A class is *out* while its share lies beyond ``factor`` times its first one, either way: it is being lost, or floods
    the scans. The first shares are means over ``settle`` steps, and nothing is out before. All state is in buffers.

    Args:
        classes: Number of classes.
        factor: κ > 1.
        span: Steps over which the moving mean forgets.
        settle: Steps whose mean counts as the beginning.
    """

    seen: Tensor
    first: Tensor
    now: Tensor
    streak: Tensor

    def __init__(self, classes: int, factor: float, span: int = 50, settle: int = 20) -> None:
        super().__init__()
        self.factor = factor
        self.span = span
        self.settle = settle
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("first", torch.zeros(classes))
        self.register_buffer("now", torch.zeros(classes))
        self.register_buffer("streak", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def update(self, labels: Tensor) -> Tensor:
        """Take in the pseudo-labels of a step.

        Args:
            labels: (n, *space) int64, each one a class; this rank's rows.

        Returns:
            (classes,) bool: which are out now.
        """
        counts = sum_across(torch.bincount(labels.flatten(), minlength=len(self.now)).to(self.now))
        share = counts / counts.sum().clamp_min(1)
        self.seen += 1
        if int(self.seen) <= self.settle:
            self.first += (share - self.first) / self.seen
            self.now.copy_(self.first)
        else:
            self.now += (share - self.now) / self.span
        out = self.out
        self.streak.copy_(torch.where(out, self.streak + 1, 0))
        return out

    @property
    def settled(self) -> bool:
        """Whether the first shares are known."""
        return int(self.seen) >= self.settle

    @property
    def out(self) -> Tensor:
        """(classes,) bool."""
        if not self.settled:
            return torch.zeros_like(self.now, dtype=torch.bool)
        return (self.now < self.first / self.factor) | (self.now > self.first * self.factor)

    def absent(self) -> list[int]:
        """Classes that had no pixel at all at the beginning, once that is known."""
        return torch.nonzero(self.first == 0).flatten().tolist() if self.settled else []

    def restart(self) -> None:
        """Begin anew, as after the weights were taken back."""
        for buffer in (self.seen, self.first, self.now, self.streak):
            buffer.zero_()
