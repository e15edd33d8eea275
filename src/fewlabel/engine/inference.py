"""Prediction of whole volumes: slice by slice for a 2D network, by a weighted sliding window for a 3D one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fewlabel.data.intensity_changes import standardise
from fewlabel.engine.runtime import Precision, resolved_precision
from fewlabel.nets.synchronised_batch_norm import BatchNorm
from fewlabel.nets.unet import ConvBlock, UNet

#: Largest window of a 3D network that does not know its patch, voxels along (slice, row, column).
WINDOW = (32, 160, 160)
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


def predict_volume(
    network: UNet,
    array: NDArray[np.float32],
    *,
    batch: int = 0,
    flip: bool = False,
    device: torch.device | str | None = None,
    precision: Precision = "auto",
    window: tuple[int, int, int] = WINDOW,
) -> NDArray[np.float32]:
    """Class probabilities of a prepared volume.

    Every slice is standardised as in training. Sides that are no multiple of the network's stride are padded by
    their edge and cut back. The network's mode is left as it was found.

    Args:
        network: Predicts; moved to ``device`` if one is given.
        array: (channels, depth, height, width) in [0, 1].
        batch: Slices, or windows in 3D, in one pass; 0 for 4 slices or 1 window on a CPU (their maps stay in its
            cache), and 32 or 4 elsewhere.
        flip: Average the probabilities over the four flips of the slice plane.
        device: Where to compute; by default where the network is.
        precision: ``auto`` computes in bfloat16 where the hardware does; probabilities are float32 always.
        window: Largest window of a 3D network, voxels along (depth, height, width).

    Returns:
        (classes, depth, height, width) float32, summing to 1 over the classes.
    """
    if device is not None:
        network.to(device)
    place = next(network.parameters()).device
    slicewise = network.config.ndim == 2
    usual = (4, 32) if slicewise else (1, 4)
    batch = batch or usual[place.type != "cpu"]
    mixed = resolved_precision(precision, place.type) == "bf16-mixed"
    with _evaluating(network), torch.inference_mode():
        slices = standardise(torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32)).movedim(0, 1).to(place))
        with torch.autocast(place.type, dtype=torch.bfloat16, enabled=mixed):
            run = _slicewise(network, batch) if slicewise else _windowed(network, batch, window)
            total = _probabilities(run, slices, ())
            for axes in _FLIPS[1:] if flip else ():
                total += _probabilities(run, slices, axes)
        if flip:
            total /= len(_FLIPS)
        return np.asarray(total.cpu().numpy(), dtype=np.float32)


def window_of(facts: Mapping[str, Any]) -> tuple[int, int, int]:
    """The window a segmenter predicts with: the size of the patches it was trained on.

    Args:
        facts: Content of ``segmenter.json``.
    """
    depth, height, width = facts.get("patch") or WINDOW
    return int(depth), int(height), int(width)


def folded(network: UNet) -> UNet:
    """A copy for prediction only, in eval mode, with every batch normalisation folded into its convolution.

    Same function as ``network`` in eval mode up to rounding, with fewer passes over memory.
    """
    twin = copy.deepcopy(network).eval()
    for block in twin.modules():
        if isinstance(block, ConvBlock):
            block.norm1 = _fold(block.conv1, block.norm1)
            block.norm2 = _fold(block.conv2, block.norm2)
    layout = torch.channels_last if network.config.ndim == 2 else torch.channels_last_3d
    return twin.requires_grad_(requires_grad=False).to(memory_format=layout)  # type: ignore[call-overload, no-any-return]


def _fold(conv: nn.Module, norm: nn.Module) -> nn.Module:
    if not isinstance(norm, BatchNorm) or not isinstance(conv, nn.Conv2d | nn.Conv3d):
        return norm
    if norm.running_mean is None or norm.running_var is None:
        return norm
    conv.weight, conv.bias = fuse_conv_bn_weights(
        conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )
    return nn.Identity()


def _probabilities(run: Callable[[Tensor], Tensor], slices: Tensor, axes: tuple[int, ...]) -> Tensor:
    """(classes, depth, height, width) float32 of the slices flipped along ``axes``, flipped back."""
    flipped = slices.flip(axes) if axes else slices
    logits = run(flipped)
    # Softmax in float32 also under autocast.
    probabilities = torch.softmax(logits.float(), dim=0)
    return probabilities.flip(axes) if axes else probabilities


def _slicewise(network: UNet, batch: int) -> Callable[[Tensor], Tensor]:
    """Logits (classes, depth, height, width) of slices (depth, channels, height, width)."""

    def run(slices: Tensor) -> Tensor:
        height, width = slices.shape[-2:]
        padded = _to_stride(slices, network.config.stride).contiguous(memory_format=torch.channels_last)
        logits = torch.cat([network(part) for part in torch.split(padded, batch)])
        return logits[..., :height, :width].movedim(0, 1)

    return run


def _windowed(network: UNet, batch: int, window: tuple[int, int, int]) -> Callable[[Tensor], Tensor]:
    """As :func:`_slicewise`, with MONAI's sliding window, overlap one half, weighted by a Gaussian."""
    from monai.inferers import SlidingWindowInferer

    stride = network.config.stride

    def run(slices: Tensor) -> Tensor:
        depth, height, width = slices.shape[0], *slices.shape[-2:]
        volume = _to_stride(slices.movedim(0, 1)[None], stride)
        size = [
            min(side, max(limit - limit % stride, stride)) for side, limit in zip(volume.shape[2:], window, strict=True)
        ]
        infer = SlidingWindowInferer(size, sw_batch_size=batch, overlap=0.5, mode="gaussian")
        logits: Tensor = infer(volume, network)[0]
        return logits[:, :depth, :height, :width]

    return run


def _to_stride(images: Tensor, stride: int) -> Tensor:
    """Pad the far end of every spatial axis by its edge up to a multiple of ``stride``."""
    missing = [-side % stride for side in images.shape[2:]]
    if not any(missing):
        return images
    pads = [pad for amount in reversed(missing) for pad in (0, amount)]
    return functional.pad(images, pads, mode="replicate")


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
