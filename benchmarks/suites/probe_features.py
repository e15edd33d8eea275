"""What the pixels of a slice are described by: maps of a frozen encoder, and controls that learnt nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.nets.unet import UNetDecoder, UNetEncoder
from fewlabel.scoring.probe import IGNORED

#: Side of a cell in pixels.
STRIDE = 4
#: Side of the patch whose intensities are a control.
PATCH = 9
#: Turns of a labelled slice: an encoder is not to pay for how its patient lay.
TURNS = 8


@dataclass(frozen=True)
class Description:
    """Features of cells.

    Attributes:
        features: (n, channels, height, width) standardised slices and their heights (n,) in (0, 1) → (n, dim,
            height/4, width/4).
        sizes: Features of each level; they add up to dim.
        turns: How many turns of a labelled slice are in a bank.
    """

    features: Callable[[Tensor, Tensor], Tensor]
    sizes: tuple[int, ...]
    turns: int = TURNS


def of_encoder(encoder: UNetEncoder) -> Description:
    """All levels but the finest, averaged or interpolated to cells."""

    @torch.inference_mode()
    def features(images: Tensor, heights: Tensor) -> Tensor:
        del heights
        size = (images.shape[2] // STRIDE, images.shape[3] // STRIDE)
        maps = encoder(images.contiguous(memory_format=torch.channels_last))[1:]
        return torch.cat([_resized(level, size) for level in maps], dim=1)

    return Description(features, encoder.config.widths[1:])


def of_network(encoder: UNetEncoder, decoder: UNetDecoder) -> Description:
    """The same, and all maps of the decoder."""
    plain = of_encoder(encoder)

    @torch.inference_mode()
    def features(images: Tensor, heights: Tensor) -> Tensor:
        del heights
        size = (images.shape[2] // STRIDE, images.shape[3] // STRIDE)
        maps = encoder(images.contiguous(memory_format=torch.channels_last))
        return torch.cat([_resized(level, size) for level in [*maps[1:], *decoder(maps)]], dim=1)

    return Description(features, (*plain.sizes, *reversed(encoder.config.widths[:-1])))


def of_intensities() -> Description:
    """Intensities of the 9x9 pixels about the middle of a cell."""

    def features(images: Tensor, heights: Tensor) -> Tensor:
        del heights
        # In the middle of a patch is the pixel right of and below the middle of a cell.
        before = PATCH // 2 - STRIDE // 2
        after = PATCH - STRIDE - before
        padded = functional.pad(images, (before, after, before, after), mode="replicate")
        return functional.unfold(padded, PATCH, stride=STRIDE).unflatten(2, (images.shape[2] // STRIDE, -1))

    return Description(features, (PATCH**2,))


def of_places() -> Description:
    """Where a cell lies in its volume: row, column and height of the slice. Slices are not turned."""

    def features(images: Tensor, heights: Tensor) -> Tensor:
        count, high, wide = len(images), images.shape[2] // STRIDE, images.shape[3] // STRIDE
        rows = torch.linspace(0, 1, high)[None, :, None].expand(count, high, wide)
        columns = torch.linspace(0, 1, wide).expand(count, high, wide)
        return torch.stack([rows, columns, heights[:, None, None].expand(count, high, wide)], dim=1)

    return Description(features, (3,), turns=1)


def turned(images: Tensor, labels: Tensor, turns: int) -> tuple[Tensor, Tensor]:
    """Slices and masks turned by equal angles about the middle.

    Args:
        images: (n, channels, height, width), continued by their rim.
        labels: (n, height, width) uint8; what comes from outside is ignored.
        turns: How many, the first by 0 degrees.

    Returns:
        (turns·n, channels, height, width) and (turns·n, height, width).
    """
    pairs = [(images, labels)]
    for turn in range(1, turns):
        cosine, sine = math.cos(math.tau * turn / turns), math.sin(math.tau * turn / turns)
        ratio = images.shape[2] / images.shape[3]
        matrix = torch.tensor([[cosine, -sine * ratio, 0.0], [sine / ratio, cosine, 0.0]])
        grid = functional.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
        shown = functional.grid_sample(images, grid, padding_mode="border", align_corners=False)
        # Counted from 1, so that outside is 0.
        mask = (labels[:, None].float() + 1) * (labels[:, None] != IGNORED)
        told = functional.grid_sample(mask, grid, mode="nearest", align_corners=False)[:, 0]
        pairs.append((shown, torch.where(told > 0, told - 1, float(IGNORED)).to(torch.uint8)))
    every_image, every_mask = zip(*pairs, strict=True)
    return torch.cat(every_image), torch.cat(every_mask)


def _resized(level: Tensor, size: Sequence[int]) -> Tensor:
    if level.shape[2] > size[0]:
        return functional.avg_pool2d(level, level.shape[2] // size[0])
    return functional.interpolate(level, size=tuple(size), mode="bilinear", align_corners=False)
