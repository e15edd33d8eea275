"""Projection heads of pre-training; dropped once the encoder is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.full_precision import full_precision
from fewlabel.nets.synchronised_batch_norm import BatchNorm

#: Largest side of a flattened map.
CELLS = 6


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
        hidden: Width between the layers; None for that of the input.
        bias: Whether the layers have biases.
    """

    def __init__(
        self, channels: int, outputs: int, *, centred: bool = False, hidden: int | None = None, bias: bool = True
    ) -> None:
        super().__init__()
        width = channels if hidden is None else hidden
        self.first = nn.Linear(channels, width, bias=bias)
        # A bias before a normalisation would have a pure-noise gradient.
        self.second = nn.Linear(width, outputs, bias=bias and not centred)
        self.norm = BatchNorm(outputs, affine=False) if centred else None

    def forward(self, rows: Tensor) -> Projection:
        """(n, pixels, channels) to hidden and output rows."""
        hidden = torch.relu(self.first(rows))
        output = self.second(hidden)
        if self.norm is not None:
            as_map = output.transpose(1, 2).unsqueeze(-1)
            # Statistics in full precision, whatever the products ran in.
            output = self.norm(full_precision(as_map)).squeeze(-1).transpose(1, 2)
        return Projection(hidden, output)


class PooledHead(PixelHead):
    """The same layers on the mean of the map: one row per image (PCL, SPL)."""

    def forward(self, rows: Tensor) -> Projection:
        """(n, pixels, channels) to hidden and output rows (n, 1, ...)."""
        return super().forward(rows.mean(dim=1, keepdim=True))


class FlattenHead(PixelHead):
    """Two layers without bias on the flattened map, so that an embedding knows where things are (Chaitanya, 2020).

    A side longer than 6 is averaged down to it first, over stretches that overlap where it does not divide: the
    first layer's size is that of the published one, whose maps were 6x6, and does not grow with the image.

    Args:
        channels: Channels of the encoder's last map.
        outputs: Size of an embedding.
        size: (height, width) of that map.
        hidden: Width between the layers.
    """

    def __init__(self, channels: int, outputs: int, size: tuple[int, int], *, hidden: int = 1024) -> None:
        shown = (min(size[0], CELLS), min(size[1], CELLS))
        super().__init__(channels * shown[0] * shown[1], outputs, hidden=hidden, bias=False)
        self.size = size
        self.shown = shown

    def forward(self, rows: Tensor) -> Projection:
        """(n, pixels, channels) to hidden and output rows (n, 1, ...)."""
        features = rows.transpose(1, 2).reshape(len(rows), -1, *self.size)
        if self.shown != self.size:
            features = functional.adaptive_avg_pool2d(features, self.shown)
        return super().forward(features.flatten(1)[:, None])


class RegionHead(nn.Module):
    """Embeddings of fixed regions of a map: two 1x1 convolutions, then a linear layer on the flattened region.

    Args:
        channels: Channels of the map.
        outputs: Size of an embedding.
        pixels: (regions, pixels of a region) int64, flat indices in the map.
    """

    pixels: Tensor

    def __init__(self, channels: int, outputs: int, pixels: Tensor) -> None:
        super().__init__()
        self.register_buffer("pixels", pixels, persistent=False)
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, channels, 1, bias=False),
            BatchNorm(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        )
        self.dense = nn.Linear(channels * pixels.shape[1], outputs, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """(n, channels, height, width) to (n, regions, outputs), not of unit length."""
        rows = pixel_rows(self.convolutions(features)).index_select(1, self.pixels.flatten())
        return torch.as_tensor(self.dense(rows.reshape(len(rows), len(self.pixels), -1)))


def pixel_rows(features: Tensor) -> Tensor:
    """A map (n, channels, *space) as rows (n, pixels, channels); a view if the map is channels-last."""
    return features.flatten(2).transpose(1, 2)
