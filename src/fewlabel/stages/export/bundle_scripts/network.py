"""The networks of a segmenter, for prediction alone: several as one module, and whole volumes by it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Added to the variance of a slice as it is standardised.
_EPS = 1e-6


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
