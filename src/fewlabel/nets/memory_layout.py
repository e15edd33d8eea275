"""Memory layout: channels innermost, which convolutions read fastest."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def channels_last(network: Network) -> Network:
    """Lay out all 2D and 3D kernels with channels innermost, in place; returns the network."""
    for parameter in network.parameters():
        parameter.data = channels_last_map(parameter.data)
    return network


def channels_last_map(tensor: Tensor) -> Tensor:
    """A map or kernel of 4 or 5 axes with channels innermost; others unchanged."""
    if tensor.dim() == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    if tensor.dim() == 5:
        return tensor.contiguous(memory_format=torch.channels_last_3d)
    return tensor
