"""A representation head over the maps of a decoder, for training only (ARCO; feature pyramids, Lin et al., 2017)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.nets.synchronised_batch_norm import normalisation
from fewlabel.nets.unet import UNet, UNetConfig


@dataclass(frozen=True)
class Pyramid:
    """What a U-Net gives on the way to its logits.

    Attributes:
        maps: The bottleneck's map, then those of the decoder's blocks, coarsest first; level l has stride 2^l.
        logits: (n, classes, *space).
    """

    maps: Sequence[Tensor]
    logits: Tensor


def pyramid(network: UNet, images: Tensor) -> Pyramid:
    """One pass of a network that keeps its maps."""
    maps = network.encoder(images)
    decoded = network.decoder(maps)
    return Pyramid([maps[-1], *decoded], torch.as_tensor(network.classifier(decoded[-1])))


@dataclass(frozen=True)
class Representation:
    """Embeddings of the places of a map.

    Attributes:
        hidden: (n, dim, *places) what enters the last layer.
        output: (n, dim, *places), not of unit length.
    """

    hidden: Tensor
    output: Tensor


class RepresentationHead(nn.Module):
    """Residual 1x1 convolutions over the bottleneck and decoder maps, brought to one size, joined and projected.

    ``h = relu(norm(W concat_l(up(x_l + relu(V_l x_l)))))`` and ``o = P h + b``. Maps finer than the head's stride are
    averaged down first. W on the joined maps is the sum of a W_l on each, and a 1x1 convolution and a linear
    interpolation may change places, so W_l is applied before the enlargement: the same numbers, and the coarse maps
    cost next to nothing.

    What differs from the paper and its code: there 496 or 512 outputs at full resolution, here any number at any
    stride, a quarter of the resolution by default in the regimes (a sixteenth of the cost); the code's layers are
    linear behind linear ones (its normalisations and ReLUs are commented out), here there is a ReLU between any two.

    Args:
        config: Architecture of the network.
        dim: Outputs.
        stride: Of the head's map in input pixels: a power of 2 up to that of the bottleneck.

    Raises:
        ValueError: If the stride is none of the network's.
    """

    def __init__(self, config: UNetConfig, dim: int, stride: int) -> None:
        super().__init__()
        if stride not in {2**level for level in range(config.depth)}:
            raise ValueError(
                f"a network of depth {config.depth} has strides 1 to {config.stride}, powers of 2: {stride}?"
            )
        self.level = int(math.log2(stride))
        conv = nn.Conv2d if config.ndim == 2 else nn.Conv3d
        widths = config.widths[::-1]
        self.residual = nn.ModuleList(conv(width, width, 1, bias=False) for width in widths)
        self.join = nn.ModuleList(conv(width, dim, 1, bias=False) for width in widths)
        self.norm = normalisation(config.norm, dim, config.ndim)
        self.last = conv(dim, dim, 1)
        self.shrink = functional.avg_pool2d if config.ndim == 2 else functional.avg_pool3d
        self.mode = "bilinear" if config.ndim == 2 else "trilinear"

    def forward(self, maps: Sequence[Tensor]) -> Representation:
        """Embeddings of :attr:`Pyramid.maps`."""
        finest = len(maps) - 1
        size = maps[finest - self.level].shape[2:]
        parts = []
        for index, (x, residual, join) in enumerate(zip(maps, self.residual, self.join, strict=True)):
            level = finest - index
            if level < self.level:
                x = self.shrink(x, 2 ** (self.level - level))  # noqa: PLW2901
            part = join(x + torch.relu(residual(x)))
            if level > self.level:
                part = functional.interpolate(part, size=size, mode=self.mode, align_corners=False)
            parts.append(part)
        hidden = torch.relu(self.norm(reduce(torch.add, parts)))
        return Representation(hidden, self.last(hidden))


class RowHead(nn.Module):
    """Two linear layers with layer normalisation and a ReLU between them, over rows (..., inputs).

    Normalised row by row, since the batches of semi-supervised training are too small for statistics over rows.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, inputs, bias=False)
        self.norm = nn.LayerNorm(inputs)
        self.second = nn.Linear(inputs, outputs)

    def forward(self, rows: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs), not of unit length."""
        return torch.as_tensor(self.second(torch.relu(self.norm(self.first(rows)))))
