"""What the pretext tasks share: a classifier that is at chance on features without a signal, and its accuracy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.full_precision import full_precision
from fewlabel.nets.synchronised_batch_norm import BatchNorm


def watched_rows(rows: Tensor) -> Tensor:
    """Rows (n, dim) detached and brought to unit length, for the collapse watch."""
    return functional.normalize(rows.detach(), dim=1)


class ClassHead(nn.Module):
    """A linear classifier, or one with a hidden layer, behind a batch normalisation without weights.

    The papers' heads have no normalisation. Here features are centred over the joined batch, and no layer has a bias:
    features that are all equal then give equal scores, hence exactly log(classes) for the cross-entropy. Classes are
    drawn evenly, so a bias has nothing to learn.

    Args:
        inputs: Size of a row.
        classes: Number of classes.
        hidden: Width of the hidden layer, with a ReLU; 0 for none.
    """

    def __init__(self, inputs: int, classes: int, hidden: int = 0) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, hidden, bias=False) if hidden else None
        self.norm = BatchNorm(hidden or inputs, affine=False)
        self.last = nn.Linear(hidden or inputs, classes, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """(n, inputs) to scores (n, classes), in full precision also under autocast."""
        with torch.autocast(rows.device.type, enabled=False):
            rows = full_precision(rows)
            if self.first is not None:
                rows = self.first(rows)
            rows = self.norm(rows[:, :, None, None]).flatten(1)
            return torch.as_tensor(self.last(rows if self.first is None else rows.relu()))


def accuracy(scores: Tensor, classes: Tensor) -> float:
    """Share of rows (n, classes) whose highest score is that of their class (n,); of this rank."""
    return float((scores.detach().argmax(dim=1) == classes).float().mean())
