"""The networks of a segmenter, for prediction alone: several as one module, and whole volumes by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Added to the variance of a slice as it is standardised.
_EPS = 1e-6


class Block(nn.Module):
    """Two 3-wide convolutions, each with its normalisation and activation."""

    def __init__(self, ndim: int, inputs: int, outputs: int, norm: str, slope: float) -> None:
        super().__init__()
        conv = nn.Conv2d if ndim == 2 else nn.Conv3d
        self.conv1 = conv(inputs, outputs, 3, padding=1, bias=norm == "folded")
        self.norm1 = _norm(norm, outputs, ndim)
        self.conv2 = conv(outputs, outputs, 3, padding=1, bias=norm == "folded")
        self.norm2 = _norm(norm, outputs, ndim)
        self.activation = nn.LeakyReLU(slope) if slope else nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(n, inputs, *space) → (n, outputs, *space)."""
        x = self.activation(self.norm1(self.conv1(x)))
        return torch.as_tensor(self.activation(self.norm2(self.conv2(x))))


class Network(nn.Module):
    """A U-Net for prediction; its weights have the names of those it was trained with.

    Args:
        ndim: 2 for slices, 3 for volumes.
        channels: Of an image.
        classes: Background included.
        width: Channels of the first level; each level doubles it.
        depth: Levels.
        norm: ``folded`` where batch normalisation has become part of the convolutions; else ``instance`` or ``group``.
        slope: Negative slope of the activation.
    """

    def __init__(
        self, *, ndim: int, channels: int, classes: int, width: int, depth: int, norm: str, slope: float
    ) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth)]
        inputs = [channels, *widths]
        down = [Block(ndim, inputs[level], widths[level], norm, slope) for level in range(depth)]
        levels = range(depth - 2, -1, -1)
        transposed = nn.ConvTranspose2d if ndim == 2 else nn.ConvTranspose3d
        ups = [transposed(widths[level + 1], widths[level], 2, stride=2) for level in levels]
        blocks = [Block(ndim, 2 * widths[level], widths[level], norm, slope) for level in levels]
        self.encoder = nn.ModuleDict({"blocks": nn.ModuleList(down)})
        self.decoder = nn.ModuleDict({"ups": nn.ModuleList(ups), "blocks": nn.ModuleList(blocks)})
        self.classifier = (nn.Conv2d if ndim == 2 else nn.Conv3d)(width, classes, 1)
        self.pool = nn.MaxPool2d(2) if ndim == 2 else nn.MaxPool3d(2)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes, *space) of images (n, channels, *space); sides are multiples of 2^(depth - 1)."""
        maps: list[Tensor] = []
        for block in self.encoder["blocks"].children():
            maps.append(block(self.pool(maps[-1]) if maps else images))
        x = maps.pop()
        for up, block in zip(self.decoder["ups"].children(), self.decoder["blocks"].children(), strict=True):
            x = block(torch.cat([maps.pop(), up(x)], dim=1))
        return torch.as_tensor(self.classifier(x))


def segmenter(*, members: int, **network: Any) -> Segmenter:
    """Networks of one architecture, weights at random, as one module.

    Args:
        members: How many.
        **network: Arguments of :class:`Network`.
    """
    made = [Network(**network) for _ in range(members)]
    return Segmenter(made, int(network["ndim"]), int(2 ** (network["depth"] - 1)))


class Segmenter(nn.Module):
    """The members of a segmenter as one module, mode and weights as they are.

    Args:
        members: Networks of one architecture, from images (n, channels, *space) to logits (n, classes, *space).
        ndim: 2 for networks of slices, 3 for those of volumes.
        stride: Sides of what a network is given are multiples of it.
    """

    def __init__(self, members: Sequence[nn.Module], ndim: int, stride: int) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.ndim, self.stride = ndim, stride

    def forward(self, images: Tensor) -> Tensor:
        """Probabilities of slices, or logits of windows.

        Args:
            images: With ``ndim`` 2 prepared slices (n, channels, height, width) in [0, 1]; with 3 windows
                (n, channels, depth, height, width) of a volume whose slices are standardised, sides multiples of the
                stride.

        Returns:
            With ``ndim`` 2 (n, classes, height, width), summing to 1, the mean over the members; with 3
            (n, members * classes, depth, height, width), member by member: windows are joined before the softmax.
        """
        if self.ndim == 3:
            return torch.cat([member(images) for member in self.members], dim=1)
        height, width = images.shape[-2:]
        padded = to_stride(standardise(images), self.stride)
        total = torch.stack([torch.softmax(member(padded).float(), dim=1) for member in self.members]).mean(dim=0)
        return total[..., :height, :width]


def predict_volume(
    run: Callable[[Tensor], Tensor],
    array: Tensor,
    *,
    ndim: int,
    stride: int,
    members: int,
    window: Sequence[int],
    batch: int = 0,
) -> Tensor:
    """Class probabilities of a prepared volume.

    Args:
        run: What :meth:`Segmenter.forward` does.
        array: (channels, depth, height, width) in [0, 1].
        ndim: As of :class:`Segmenter`.
        stride: As of :class:`Segmenter`.
        members: How many networks ``run`` stands for.
        window: Largest window of networks of volumes, (depth, height, width).
        batch: Slices, or windows, in one pass; 0 for 4 slices or 1 window on a CPU, and 32 or 4 elsewhere.

    Returns:
        (classes, depth, height, width), summing to 1 over the classes.
    """
    usual = (4, 32) if ndim == 2 else (1, 4)
    batch = batch or usual[array.device.type != "cpu"]
    slices = array.movedim(0, 1)
    if ndim == 2:
        return torch.cat([run(part) for part in torch.split(slices.contiguous(), batch)]).movedim(0, 1)
    from monai.inferers import SlidingWindowInferer

    depth, height, width = array.shape[1:]
    volume = to_stride(standardise(slices).movedim(0, 1)[None], stride)
    size = [
        min(side, max(limit - limit % stride, stride)) for side, limit in zip(volume.shape[2:], window, strict=True)
    ]
    logits = SlidingWindowInferer(size, sw_batch_size=batch, overlap=0.5, mode="gaussian")(volume, run)[0]
    of_members = logits[:, :depth, :height, :width].unflatten(0, (members, -1))
    return torch.softmax(of_members.float(), dim=1).mean(dim=0)


def standardise(images: Tensor) -> Tensor:
    """Mean 0 and variance 1 for each slice and channel of (n, channels, height, width); a constant slice becomes 0."""
    return functional.layer_norm(images.float(), images.shape[-2:], eps=_EPS)


def to_stride(images: Tensor, stride: int) -> Tensor:
    """Pad the far end of every spatial axis by its edge up to a multiple of ``stride``."""
    missing = [-side % stride for side in images.shape[2:]]
    if not any(missing):
        return images
    pads = [pad for amount in reversed(missing) for pad in (0, amount)]
    return functional.pad(images, pads, mode="replicate")


def _norm(kind: str, channels: int, ndim: int) -> nn.Module:
    if kind == "folded":
        return nn.Identity()
    if kind == "group":
        return nn.GroupNorm(min(8, channels), channels)
    return (nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d)(channels, affine=True)
