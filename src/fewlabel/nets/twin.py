"""A slowly moving copy of a network, and how fast it moves.

A constant momentum needs no schedule; the other two are functions of the step alone, so a resumed run needs no state.
"""

from __future__ import annotations

import copy
import math
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

#: What becomes of running statistics and other buffers; see :class:`MomentumTwin`.
BufferPolicy = Literal["ema", "copy", "own"]


class MomentumTwin(nn.Module):
    """A copy of a network that follows it: θ_k ← m θ_k + (1-m) θ_q (MoCo, He et al. 2020, Eq. 2).

    The copy has no gradients, neither for its weights nor for what goes in. The source is not kept, so its weights are
    not twice in a checkpoint.

    Public codes disagree on running statistics, so the policy is explicit, and it settles the copy's mode:

    * ``own``: the copy keeps statistics of what it has seen itself and obeys ``train()`` and ``eval()`` as any module
      does; in training it normalises by the batch at hand (MoCo, DenseCL, PixPro).
    * ``ema``: the statistics follow the source's by the same average as the weights.
    * ``copy``: the statistics are those of the source.

    With ``ema`` and ``copy`` the twin is in eval mode always, whatever ``train()`` says: its statistics come from the
    source, and a forward pass must not move them.

    Args:
        source: The network to copy, as it is now.
        buffers: See above.
    """

    def __init__(self, source: nn.Module, buffers: BufferPolicy = "own") -> None:
        super().__init__()
        self.buffer_policy = buffers
        self.network = copy.deepcopy(source).requires_grad_(requires_grad=False)
        self.train(source.training)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, but with ``ema`` and ``copy`` leave the copy in eval mode."""
        super().train(mode)
        if self.buffer_policy != "own":
            self.network.eval()
        return self

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the copy gives, without gradient."""
        return self.network(*args, **kwargs)

    @torch.no_grad()
    def update(self, source: nn.Module, momentum: float) -> None:
        """Move towards the source: m times the old weights plus 1-m times the source's.

        Args:
            source: The network that was copied.
            momentum: m in [0, 1]; 0 copies the source, 1 keeps the twin.

        Raises:
            ValueError: If the momentum is out of range, or the source has other tensors.
        """
        if not 0 <= momentum <= 1:
            raise ValueError(f"a momentum lies in [0, 1], not {momentum}")
        averaged = {name for name, _ in source.named_parameters()}
        theirs, ours = self._followed(source), self._followed(self.network)
        if theirs.keys() != ours.keys():
            raise ValueError(f"source and twin differ in {', '.join(sorted(theirs.keys() ^ ours.keys()))}")
        for name, tensor in ours.items():
            if (name in averaged or self.buffer_policy == "ema") and tensor.is_floating_point():
                tensor.mul_(momentum).add_(theirs[name].detach(), alpha=1 - momentum)
            else:
                tensor.copy_(theirs[name])

    def _followed(self, network: nn.Module) -> dict[str, Tensor]:
        """The tensors that an update moves, by name."""
        found: dict[str, Tensor] = dict(network.named_parameters())
        return found if self.buffer_policy == "own" else {**found, **dict(network.named_buffers())}


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
