"""Labels of a network's own making held to what labelled slices show: an organ that is always in one piece."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewlabel.core.collective import sum_across
from fewlabel.objectives.connected_components import largest_components

#: A class is in one piece if its largest one has this share of its pixels: resampling leaves crumbs.
WHOLE = 0.98
#: Share of the labelled maps of a class that show it in one piece from which it is expected to be: a view may cut it.
MOST = 0.95
#: Fewer maps of a class tell nothing.
FEWEST = 20


class OnePiece(nn.Module):
    """Learns from labelled maps what is in one piece, and holds other maps to it.

    The foreground as a whole counts beside each class: structures that always touch are expected to. All state is in
    buffers, and equal on all processes.

    Args:
        classes: Number of classes, background included.

    Attributes:
        shown: (classes,) int64 labelled maps that have each class; those that have any stand for the background.
        whole: (classes,) int64: how many of them have it in one piece.
    """

    shown: Tensor
    whole: Tensor

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("shown", torch.zeros(classes, dtype=torch.int64))
        self.register_buffer("whole", torch.zeros(classes, dtype=torch.int64))

    @torch.no_grad()
    def learn(self, labels: Tensor) -> None:
        """Take in labelled maps.

        Args:
            labels: (n, *space) int64, this process's rows. What is no class, such as 255, is background.
        """
        classes = len(self.shown)
        known = torch.where(labels < classes, labels, 0)
        kept = largest_components(known)
        before = [_sizes(known > 0), *(_sizes(known == label) for label in range(1, classes))]
        after = [_sizes(_largest_foreground(known)), *(_sizes(kept == label) for label in range(1, classes))]
        there = torch.stack(before)
        whole = (there > 0) & (torch.stack(after) >= WHOLE * there)
        counts = sum_across(torch.stack([(there > 0).sum(dim=1), whole.sum(dim=1)]))
        self.shown += counts[0]
        self.whole += counts[1]

    @property
    def expected(self) -> Tensor:
        """(classes,) bool: what is in one piece in nearly all labelled maps; the foreground as a whole comes first."""
        return (self.shown >= FEWEST) & (self.whole >= MOST * self.shown)

    @torch.no_grad()
    def hold(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What labels become if only the largest piece counts where one is expected.

        Args:
            labels: (n, *space) int64, each one a class.

        Returns:
            Labels whose foreground is its largest piece if one is expected, background elsewhere; and a bool mask of
            pixels of a class that lie beside its largest piece where one is expected: what they are is open.
        """
        expected = self.expected.tolist()
        if expected[0]:
            labels = torch.where(_largest_foreground(labels), labels, 0)
        beside = torch.zeros_like(labels, dtype=torch.bool)
        if any(expected[1:]):
            single = torch.tensor([False, *expected[1:]], device=labels.device)[labels]
            beside = single & (largest_components(labels) == 0)
        return labels, beside


def _largest_foreground(labels: Tensor) -> Tensor:
    return largest_components((labels > 0).to(torch.int64)) > 0


def _sizes(masks: Tensor) -> Tensor:
    return masks.flatten(1).sum(dim=1)
