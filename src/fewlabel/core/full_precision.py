"""Full precision for what must not be rounded: statistics, similarities and losses."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """Float32, or float64 if it is that already."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
