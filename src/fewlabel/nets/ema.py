"""A slowly moving copy of a network, and how fast it moves.

A constant momentum needs no schedule; the other two are functions of the step alone, so a resumed run needs no state.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import nn


class EMAModel(nn.Module):
    """A copy of a network that follows it: θ_k ← m θ_k + (1-m) θ_q (MoCo, He et al. 2020, Eq. 2).

    The copy has no gradients, neither for its weights nor for what goes in. The source is not kept, so its weights are
    not twice in a checkpoint. It keeps statistics of what it has seen itself and obeys ``train()`` and ``eval()`` as
    any module does: in training it normalises by the batch at hand (MoCo, DenseCL, PixPro; of teachers see decision
    0009).

    Args:
        source: The network to copy, as it is now.
    """

    def __init__(self, source: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(source).requires_grad_(requires_grad=False)
        self.train(source.training)

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the copy gives, without gradient."""
        return self.network(*args, **kwargs)

    @torch.no_grad()
    def update(self, source: nn.Module, momentum: float) -> None:
        """Move towards the source: m times the old weights plus 1-m times the source's.

        Args:
            source: The network that was copied.
            momentum: m in [0, 1]; 0 copies the source, its statistics too, 1 keeps the twin.

        Raises:
            ValueError: If the momentum is out of range, or the source has other tensors.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"a momentum lies in [0, 1], not {momentum}")
        theirs, ours = dict(source.named_parameters()), dict(self.network.named_parameters())
        if theirs.keys() != ours.keys():
            raise ValueError(f"source and twin differ in {', '.join(sorted(theirs.keys() ^ ours.keys()))}")
        if momentum == 0:
            self.network.load_state_dict(source.state_dict())
            return
        for name, tensor in ours.items():
            tensor.mul_(momentum).add_(theirs[name].detach(), alpha=1 - momentum)

    @torch.no_grad()
    def take_statistics(self, source: nn.Module) -> None:
        """Copy the source's buffers: after a step in which the twin has seen nothing."""
        ours = dict(self.network.named_buffers())
        for name, tensor in source.named_buffers():
            ours[name].copy_(tensor)


def cosine_momentum(start: float, step: int, total: int) -> float:
    """m(k) = 1 - (1-m₀)(cos(πk/K)+1)/2, from m₀ at step 0 to 1 at the end (BYOL, Grill et al. 2020; PixPro).

    Args:
        start: m₀ in [0, 1].
        step: k, from 0.
        total: K, steps of the run.
    """
    return 1 - (1 - start) * (math.cos(math.pi * step / total) + 1) / 2


def bias_corrected(momentum: float, step: int) -> float:
    """min(1 - 1/(t+1), m): the plain mean of all weights so far, until m is reached (Mean Teacher, Tarvainen 2017).

    Args:
        momentum: m in [0, 1].
        step: t, from 0; at step 0 the twin becomes the source.
    """
    return min(1 - 1 / (step + 1), momentum)
