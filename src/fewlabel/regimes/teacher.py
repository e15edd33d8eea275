"""The teacher of semi-supervised regimes: a moving average of the student, with one policy for all."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewlabel.core.full_precision import full_precision
from fewlabel.nets.ema import EMAModel, bias_corrected


class Teacher(nn.Module):
    """An exponential moving average of a network that gives targets: θ' ← α_t θ' + (1 - α_t) θ.

    Policy, the same in every regime:

    * α_t = min(1 - 1/(t+1), α): the teacher equals the student after the first step and forgets its start fast.
    * In training it normalises by the statistics of the batch it is given, as public codes do, and keeps running
      statistics of its own for eval mode (decision 0009). An average of weights has a smaller norm than the weights,
      so that the student's statistics make its maps small and its predictions flat: background.
    * It has no gradient, and what it gives has none.

    Args:
        student: The network to follow, as it is now.
        momentum: α.
    """

    def __init__(self, student: nn.Module, momentum: float) -> None:
        super().__init__()
        self.twin = EMAModel(student)
        self.momentum = momentum

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Logits of images in full precision, without gradient; all rows of all ranks share their statistics."""
        return full_precision(self.twin(images))

    def update(self, student: nn.Module, step: int, *, fed: bool = True) -> None:
        """Follow the student after a step, from 0; where the teacher was not fed in it, in its statistics too."""
        self.twin.update(student, bias_corrected(self.momentum, step))
        if not fed:
            self.twin.take_statistics(student)

    @property
    def network(self) -> nn.Module:
        """The averaged network itself."""
        return self.twin.network
