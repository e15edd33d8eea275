"""An Adam whose moments are buffers, for a network that trains beside the main one (a discriminator)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fewlabel.core.collective import average_gradients


class InnerAdam(nn.Module):
    """Adam (Kingma & Ba, ICLR 2015, Alg. 1) over a fixed list of tensors, without weight decay.

    The moments are buffers, so a checkpoint of the regime that holds this module holds them too. The tensors are not
    kept; :meth:`step` is given them.

    Args:
        parameters: The tensors to train, in a fixed order.
        rate: Learning rate.
        betas: Decay of the two moments.
    """

    count: Tensor

    def __init__(self, parameters: Sequence[Tensor], rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        super().__init__()
        self.rate = rate
        self.betas = betas
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        for index, tensor in enumerate(parameters):
            self.register_buffer(f"first{index}", torch.zeros_like(tensor))
            self.register_buffer(f"second{index}", torch.zeros_like(tensor))

    @torch.no_grad()
    def step(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Average the gradients over ranks and move the tensors.

        Args:
            parameters: As given at the start.
            gradients: One per tensor, of this rank's share of the loss.
        """
        gradients = [gradient.clone() for gradient in gradients]
        average_gradients(gradients)
        self.count += 1
        count = int(self.count)
        one, two = self.betas
        for index, (tensor, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            first, second = self.get_buffer(f"first{index}"), self.get_buffer(f"second{index}")
            first.lerp_(gradient, 1 - one)
            second.lerp_(gradient.square(), 1 - two)
            scale = second.sqrt().div_(math.sqrt(1 - two**count)).add_(1e-8)
            tensor.addcdiv_(first, scale, value=-self.rate / (1 - one**count))
