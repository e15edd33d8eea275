"""Watches for runs that should stop: non-finite numbers and collapsed embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from fewlabel.core.errors import DivergedError, Fault


def spread(embeddings: Tensor) -> float:
    """1 − ‖mean‖² of unit vectors (rows, dim): 0 if all are equal, near 1 if they fill the sphere."""
    return float(1 - embeddings.float().mean(dim=0).square().sum())


def effective_rank(embeddings: Tensor) -> float:
    """Exponential of the entropy of the normalised singular values of centred rows (Roy & Vetterli, 2007).

    Between 1 (all rows on a line, or equal) and min(rows, dim).
    """
    centred = embeddings.float() - embeddings.float().mean(dim=0)
    values = torch.linalg.svdvals(centred)
    total = float(values.sum())
    if total <= 1e-12:
        return 1.0
    shares = values / total
    shares = shares[shares > 1e-12]
    return float(torch.exp(-(shares * shares.log()).sum()))


class CollapseWatch:
    """Stops a run whose embeddings stay equal.

    Args:
        patience: Steps in a row after which the run stops; 0 never stops.
        limit: Spread below which embeddings count as collapsed.
    """

    def __init__(self, patience: int, limit: float = 1e-3) -> None:
        self.patience = patience
        self.limit = limit
        self.streak = 0

    def update(self, value: float, step: int, loss: float, collapsed: float | None) -> None:
        """Take the spread of one step.

        Raises:
            DivergedError: After ``patience`` collapsed steps in a row, with advice.
        """
        self.streak = self.streak + 1 if value < self.limit else 0
        if self.patience and self.streak >= self.patience:
            known = f", loss {loss:.4f}" + (f", {collapsed:.4f} if all embeddings were equal" if collapsed else "")
            fault = Fault(
                f"image embeddings were equal for {self.patience} steps in a row (spread {value:.1e}{known})",
                f"step {step}",
                "Weaken the intensity augmentation (augment.brightness, augment.gamma), lower optimiser.lr, "
                "or raise method.temperature; collapse_patience=0 turns this check off",
            )
            raise DivergedError("Pre-training collapsed and would give a useless encoder:", [fault])


def not_finite(
    loss: float, gradient_norm: float, step: int, slices: Sequence[int], saved: tuple[int, Path] | None
) -> DivergedError:
    """The error for a loss or gradient that is not finite: step, slices of the batch, and the last checkpoint."""
    problem = f"the loss is {loss} and the gradient norm {gradient_norm}"
    where = f"step {step}, slices {list(slices)}"
    remedy = "Start again in another --out with a lower optimiser.lr, with optimiser.clip=1 or with precision=32"
    if saved is not None:
        remedy += f"; the state before step {saved[0]} stays in {saved[1]}"
    faults = [Fault(problem, where, remedy)]
    return DivergedError("Training met a number that is not finite:", faults)
