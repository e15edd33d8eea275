"""A U-Net whose encoder, decoder and classifier can be trained, exported and loaded apart; 2D and 3D by one code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import ValidationInfo, field_validator
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.settings.base import Settings, setting
from fewlabel.nets.synchronised_batch_norm import activation, affine_scale, normalisation

#: A depth that nobody asked for leaves this many cells of the smallest map, and is no less than this many levels.
FEWEST_CELLS, FEWEST_LEVELS = 4, 3


class UNetConfig(Settings):
    """Architecture of the network; stored beside every weight file."""

    ndim: Literal[2, 3] = setting(2, "2 for slices, 3 for volumes", source="GCL: slices")
    in_channels: int = setting(1, "image channels", ge=1)
    width: int = setting(
        32, "channels of the first level; each level doubles it", ge=4, source="own choice; GCL does not say"
    )
    depth: int = setting(
        5,
        "levels, i.e. 4 poolings and a bottleneck for 5; not given, 4 or 3 where images are too small or odd for 5",
        ge=2,
        le=7,
        source="own choice; GCL does not say",
    )
    norm: Literal["batch", "instance", "group"] = setting(
        "batch", "normalisation; group needs a width of 4 or a multiple of 8", source="own choice; GCL does not say"
    )
    slope: float = setting(
        0.0, "negative slope of the activation; 0 is ReLU", ge=0, lt=1, source="own choice; GCL does not say"
    )

    @field_validator("norm")
    @classmethod
    def _divisible(cls, value: str, info: ValidationInfo) -> str:
        width = info.data.get("width")
        if value == "group" and width is not None and width % min(8, width):
            raise ValueError(f"8 groups of channels, or 4 of 4, need a width of 4 or a multiple of 8, not {width}")
        return value

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, finest first."""
        return tuple(self.width * 2**level for level in range(self.depth))

    @property
    def stride(self) -> int:
        """Size of a bottleneck cell in input pixels; image sides must be multiples of it."""
        return int(2 ** (self.depth - 1))

    def fitted(self, size: Sequence[int]) -> Self:
        """These settings for images of a size: a depth that was not given becomes the largest that suits them.

        That is one whose stride divides all sides and whose smallest map has 4 cells or more, from 3 levels to the
        default. Where there is none, and where a depth was given, nothing is changed.

        Args:
            size: Sides in pixels or voxels.
        """
        if "depth" in self.model_fields_set:
            return self
        for depth in range(self.depth, FEWEST_LEVELS - 1, -1):
            stride = 2 ** (depth - 1)
            if not any(side % stride for side in size) and math.prod(size) >= FEWEST_CELLS * stride ** len(size):
                return self if depth == self.depth else self.model_copy(update={"depth": depth})
        return self


@dataclass(frozen=True)
class Tail:
    """What the closed-form gradient norm of GradFilter needs from the encoder's last convolution.

    Attributes:
        inputs: (n, c_in, *space) detached map that entered the last convolution (kernel 3, padding 1, no bias).
        scale: (c,) or (n, c) γ/σ of the normalisation behind it.
        slope: Negative slope of the activation behind that.
    """

    inputs: Tensor
    scale: Tensor
    slope: float


def _convolution(ndim: int) -> type[nn.Conv2d] | type[nn.Conv3d]:
    return nn.Conv2d if ndim == 2 else nn.Conv3d


class ConvBlock(nn.Module):
    """Two 3-wide convolutions without bias (a bias before a normalisation has a pure-noise gradient)."""

    def __init__(self, config: UNetConfig, inputs: int, outputs: int) -> None:
        super().__init__()
        conv = _convolution(config.ndim)
        self.conv1 = conv(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = normalisation(config.norm, outputs, config.ndim)
        self.conv2 = conv(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = normalisation(config.norm, outputs, config.ndim)
        self.activation = activation(config.slope)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, *space) → (n, outputs, *space)."""
        if x.dim() == 5 and x.shape[2] == 2 and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
            # On a CPU, PyTorch 2.13's bfloat16 gradient of a 3-wide convolution's weights over a depth of exactly 2
            # holds uninitialised memory, up to infinity; maps that small cost nothing in float32.
            with torch.autocast("cpu", enabled=False):
                return self._layers(x.float())
        return self._layers(x)

    def _layers(self, x: Tensor) -> Tensor:
        x = self.activation(self.norm1(self.conv1(x)))
        return torch.as_tensor(self.activation(self.norm2(self.conv2(x))))


class UNetEncoder(nn.Module):
    """The contracting half: a list of maps, finest first; level l has stride 2^l."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        self.blocks = nn.ModuleList(
            ConvBlock(config, config.in_channels if level == 0 else widths[level - 1], widths[level])
            for level in range(config.depth)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps of all levels for (n, channels, *space); sides must be multiples of ``config.stride``."""
        maps = []
        for level, block in enumerate(self.blocks):
            x = block(x if level == 0 else self.pool(x))
            maps.append(x)
        return maps

    def forward_with_tail(self, x: Tensor) -> tuple[list[Tensor], Tail]:
        """As :meth:`forward`, with what GradFilter needs of the last convolution."""
        maps = []
        for level, block in enumerate(self.blocks[:-1]):
            x = block(x if level == 0 else self.pool(x))
            maps.append(x)
        last = self.blocks[-1]
        if not isinstance(last, ConvBlock):
            raise TypeError("the encoder ends with a ConvBlock")
        inner = last.activation(last.norm1(last.conv1(self.pool(x))))
        before = last.conv2(inner)
        maps.append(last.activation(last.norm2(before)))
        tail = Tail(inner.detach(), affine_scale(last.norm2, before), self.config.slope)
        return maps, tail

    def pool(self, x: Tensor) -> Tensor:
        """Halve every side by the maximum."""
        return functional.max_pool2d(x, 2) if self.config.ndim == 2 else functional.max_pool3d(x, 2)


class UNetDecoder(nn.Module):
    """The expanding half; may stop after some blocks.

    Args:
        config: Architecture.
        blocks: How many blocks to build, coarsest first; all by default.
    """

    def __init__(self, config: UNetConfig, blocks: int | None = None) -> None:
        super().__init__()
        self.config = config
        count = config.depth - 1 if blocks is None else blocks
        if not 1 <= count <= config.depth - 1:
            raise ValueError(f"a decoder of depth {config.depth} has 1 to {config.depth - 1} blocks, not {count}")
        widths = config.widths
        transposed = nn.ConvTranspose2d if config.ndim == 2 else nn.ConvTranspose3d
        levels = range(config.depth - 2, config.depth - 2 - count, -1)
        self.ups = nn.ModuleList(transposed(widths[level + 1], widths[level], 2, stride=2) for level in levels)
        self.blocks = nn.ModuleList(ConvBlock(config, 2 * widths[level], widths[level]) for level in levels)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Decoder maps, coarsest first; the last is the finest one built."""
        x = maps[-1]
        outputs = []
        for step, (up, block) in enumerate(zip(self.ups, self.blocks, strict=True)):
            x = block(torch.cat([maps[-2 - step], up(x)], dim=1))
            outputs.append(x)
        return outputs


class UNet(nn.Module):
    """Encoder, decoder and a 1x1 classifier.

    Args:
        config: Architecture.
        classes: Number of classes, background included.
    """

    def __init__(self, config: UNetConfig, classes: int) -> None:
        super().__init__()
        self.config = config
        self.classes = classes
        self.encoder = UNetEncoder(config)
        self.decoder = UNetDecoder(config)
        self.classifier = _convolution(config.ndim)(config.width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (n, classes, *space) of images (n, channels, *space)."""
        return torch.as_tensor(self.classifier(self.decoder(self.encoder(x))[-1]))
