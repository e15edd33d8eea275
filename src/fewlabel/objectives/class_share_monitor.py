"""Watches what share of the pixels is labelled as each class, for runs that learn from labels of their own making."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewlabel.core.collective import sum_across


class ClassShares(nn.Module):
    """Moving shares of the classes among pseudo-labels, held against what they were at the beginning.

    A class is *out* while its share lies beyond ``factor`` times its first one, either way: it is being lost, or floods
    the scans. The first shares are means over ``settle`` steps, and nothing is out before. All state is in buffers, and
    nothing here waits for the device to answer.

    Of classes that are not *known* nothing is expected: what of them comes up later is out, and being absent or out for
    long does not count.

    Args:
        classes: Number of classes.
        factor: κ > 1.
        span: Steps over which the moving mean forgets.
        settle: Steps whose mean counts as the beginning.

    Attributes:
        known: (classes,) bool, all at first: the classes that are expected. It follows from the labels, not from the
            run, so it is in no checkpoint.
    """

    known: Tensor
    seen: Tensor
    first: Tensor
    now: Tensor
    streak: Tensor

    def __init__(self, classes: int, factor: float, span: int = 50, settle: int = 20) -> None:
        super().__init__()
        self.factor = factor
        self.span = span
        self.settle = settle
        self.register_buffer("known", torch.ones(classes, dtype=torch.bool), persistent=False)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("first", torch.zeros(classes))
        self.register_buffer("now", torch.zeros(classes))
        self.register_buffer("streak", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def update(self, labels: Tensor) -> None:
        """Take in the pseudo-labels of a step.

        Args:
            labels: (n, *space) int64, each one a class; this rank's rows.
        """
        pixels = torch.stack([(labels == label).sum() for label in range(len(self.now))])
        counts = sum_across(pixels.to(self.now))
        share = counts / counts.sum().clamp_min(1)
        self.seen += 1
        settling = self.seen <= self.settle
        self.first.copy_(torch.where(settling, self.first + (share - self.first) / self.seen, self.first))
        self.now.copy_(torch.where(settling, self.first, self.now + (share - self.now) / self.span))
        self.streak.copy_(torch.where(self.out & self.known, self.streak + 1, 0))

    @torch.no_grad()
    def expect(self, known: Tensor) -> None:
        """Expect these classes alone.

        Args:
            known: (classes,) bool, the same on all processes.
        """
        self.known.copy_(known)

    @property
    def settled(self) -> Tensor:
        """Whether the first shares are there: bool, without axes."""
        return self.seen >= self.settle

    @property
    def out(self) -> Tensor:
        """(classes,) bool."""
        changed = (self.now < self.first / self.factor) | (self.now > self.first * self.factor)
        return self.settled & changed

    @property
    def absent(self) -> Tensor:
        """Whether an expected class had no pixel at all at the beginning, once that is settled: (classes,) bool."""
        return self.settled & self.known & (self.first == 0)

    def restart(self) -> None:
        """Begin anew, as after the weights were taken back."""
        for buffer in (self.seen, self.first, self.now, self.streak):
            buffer.zero_()
