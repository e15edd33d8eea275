"""Further decoders on the maps of one encoder."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from fewlabel.nets.unet import UNetConfig, UNetDecoder

#: How a decoder goes from a level to the next finer one.
Upsampling = Literal["transposed", "linear"]


class LinearDecoder(UNetDecoder):
    """The expanding half with bilinear (trilinear) up-sampling in the place of transposed convolutions.

    A 1x1 convolution halves the channels before the map is interpolated; the two commute, and this order is cheaper.

    Args:
        config: Architecture.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__(config)
        widths = config.widths
        conv = nn.Conv2d if config.ndim == 2 else nn.Conv3d
        mode = "bilinear" if config.ndim == 2 else "trilinear"
        self.ups = nn.ModuleList(
            nn.Sequential(
                conv(widths[level + 1], widths[level], 1),
                nn.Upsample(scale_factor=2, mode=mode, align_corners=False),
            )
            for level in range(config.depth - 2, -1, -1)
        )


class Branch(nn.Module):
    """A decoder with its own classifier, for the maps of an encoder that is elsewhere.

    Args:
        config: Architecture, that of the encoder.
        classes: Number of classes.
        upsampling: ``transposed`` convolutions as in the main decoder, or ``linear`` interpolation.
    """

    def __init__(self, config: UNetConfig, classes: int, upsampling: Upsampling = "transposed") -> None:
        super().__init__()
        self.decoder = UNetDecoder(config) if upsampling == "transposed" else LinearDecoder(config)
        self.classifier = (nn.Conv2d if config.ndim == 2 else nn.Conv3d)(config.width, classes, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Logits (n, classes, *space) from the encoder's maps, finest first."""
        return torch.as_tensor(self.classifier(self.decoder(maps)[-1]))
