"""Projection heads of pre-training; dropped once the encoder is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fewlabel.nets.norm import BatchNorm


@dataclass(frozen=True)
class Projection:
    """What a pixel head gives.

    Attributes:
        hidden: (n, pixels, hidden) after the ReLU.
        output: (n, pixels, outputs), not of unit length.
    """

    hidden: Tensor
    output: Tensor


class PixelHead(nn.Module):
    """Two 1x1 convolutions with a ReLU between them, hidden width = input width (GCL, Fig. 2).

    Written as linear maps over the channel axis, so that one code serves maps of any number of axes.

    Args:
        channels: Channels of the encoder's last map.
        outputs: Size of an embedding.
        centred: End with a batch normalisation without weights, over all pixels of the joined batch.
    """

    def __init__(self, channels: int, outputs: int, *, centred: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(channels, channels)
        # A bias before a normalisation would have a pure-noise gradient.
        self.second = nn.Linear(channels, outputs, bias=not centred)
        self.norm = BatchNorm(outputs, affine=False) if centred else None

    def forward(self, rows: Tensor) -> Projection:
        """(n, pixels, channels) to hidden and output rows."""
        hidden = torch.relu(self.first(rows))
        output = self.second(hidden)
        if self.norm is not None:
            as_map = output.transpose(1, 2).unsqueeze(-1)
            # Statistics in full precision, whatever the products ran in.
            wide = as_map if as_map.dtype == torch.float64 else as_map.float()
            output = self.norm(wide).squeeze(-1).transpose(1, 2)
        return Projection(hidden, output)


def pixel_rows(features: Tensor) -> Tensor:
    """A map (n, channels, *space) as rows (n, pixels, channels); a view if the map is channels-last."""
    return features.flatten(2).transpose(1, 2)
