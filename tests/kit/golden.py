"""Weights and views by formula, for golden values that no random generator can change."""

from __future__ import annotations

import torch
from torch import Tensor

from fewlabel.data.batch import PretrainBatch
from fewlabel.methods.base import PretrainMethod


def plant(method: PretrainMethod, batch: PretrainBatch, *, power: float = 1.0, amplitude: float = 0.5) -> PretrainBatch:
    """Waves in place of every parameter of the method and every view of the batch, which is given back."""
    with torch.no_grad():
        for tensor in method.parameters():
            place = _powers(tensor.numel(), power)
            tensor.copy_(torch.sin(1.7 * place + tensor.dim()).view(tensor.shape) * amplitude)
    for index, view in enumerate(batch.views):
        view.copy_(torch.cos(0.37 * _powers(view.numel(), 1.1) + index).view(view.shape))
    return batch


def _powers(count: int, power: float) -> Tensor:
    """0, 1, 2 and so on to a power, in float64: in float32 processors differ in the last bit."""
    return torch.arange(count, dtype=torch.float64) ** power
