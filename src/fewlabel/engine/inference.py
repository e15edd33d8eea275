"""Prediction of whole volumes: slice by slice for a 2D network, by a weighted sliding window for a 3D one."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol, TypedDict, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

from fewlabel.data.intensity_changes import standardise
from fewlabel.engine.runtime import Precision, resolved_precision
from fewlabel.engine.sliding_window import windowed_logits
from fewlabel.nets.synchronised_batch_norm import BatchNorm
from fewlabel.nets.unet import ConvBlock, UNet

#: Largest window of a 3D network that does not know its patch, voxels along (slice, row, column).
WINDOW = (32, 160, 160)
_FLIPS: tuple[tuple[int, ...], ...] = ((), (-1,), (-2,), (-2, -1))


class Pixels(Protocol):
    """A prepared volume that is made as it is needed: not all of it need be in memory."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(channels, depth, height, width)."""

    def slab(self, start: int, stop: int) -> NDArray[np.float32]:
        """Its slices ``start`` to ``stop``, (channels, stop - start, height, width) in [0, 1]."""


class PredictOptions(TypedDict, total=False):
    """How to predict; what is left out is as :func:`predict_slabs` has it, which says what each means."""

    batch: int
    flip: bool
    device: torch.device | str | None
    precision: Precision
    window: tuple[int, int, int]


def predict_volume(
    network: UNet, array: NDArray[np.float32] | Pixels, **options: Unpack[PredictOptions]
) -> NDArray[np.float32]:
    """Class probabilities of a prepared volume, as :func:`predict_slabs` gives them, in one array.

    Returns:
        (classes, depth, height, width) float32, summing to 1 over the classes.
    """
    return joined(predict_slabs(network, array, **options), array.shape[1])


def joined(slabs: Iterable[NDArray[np.float32]], depth: int) -> NDArray[np.float32]:
    """Slabs (..., slices, height, width) that follow each other, in one array of ``depth`` slices."""
    whole: NDArray[np.float32] | None = None
    first = 0
    for slab in slabs:
        if whole is None:
            whole = np.empty((*slab.shape[:-3], depth, *slab.shape[-2:]), dtype=np.float32)
        whole[..., first : first + slab.shape[-3], :, :] = slab
        first += slab.shape[-3]
    if whole is None or first != depth:
        raise ValueError(f"slabs of {first} slices make no volume of {depth}")
    return whole


def predict_slabs(
    network: UNet,
    array: NDArray[np.float32] | Pixels,
    *,
    batch: int = 0,
    flip: bool = False,
    device: torch.device | str | None = None,
    precision: Precision = "auto",
    window: tuple[int, int, int] = WINDOW,
) -> Iterator[NDArray[np.float32]]:
    """Class probabilities of a prepared volume, slab by slab along its slices: only one is in memory.

    Every slice is standardised as in training. Sides that are no multiple of the network's stride are padded by
    their edge and cut back. The network's mode is left as it was found, once all slabs are taken.

    Args:
        network: Predicts; moved to ``device`` if one is given.
        array: (channels, depth, height, width) in [0, 1], or what makes its slices.
        batch: Slices, or windows in 3D, in one pass; 0 for 4 slices or 1 window on a CPU (their maps stay in its
            cache), and 32 or 4 elsewhere.
        flip: Average the probabilities over the four flips of the slice plane.
        device: Where to compute; by default where the network is.
        precision: ``auto`` computes in bfloat16 where the hardware does; probabilities are float32 always.
        window: Largest window of a 3D network, voxels along (depth, height, width).

    Yields:
        (classes, slices, height, width) float32, summing to 1 over the classes.
    """
    if device is not None:
        network.to(device)
    place = next(network.parameters()).device
    slicewise = network.config.ndim == 2
    batch = batch or usual_batch(network, place.type)
    mixed = resolved_precision(precision, place.type) == "bf16-mixed"
    source = _Standardised(array, place)
    run = _slicewise if slicewise else _windowed
    with _evaluating(network):
        # Entered and left at every slab: between them, the caller is not to be in inference mode.
        passes = [
            _computing(run(network, source, axes, batch, window), axes, place, mixed=mixed)
            for axes in (_FLIPS if flip else _FLIPS[:1])
        ]
        for slabs in zip(*passes, strict=True):
            total = slabs[0]
            with torch.inference_mode():
                for other in slabs[1:]:
                    total += other
                if flip:
                    total /= len(_FLIPS)
                found = np.asarray(total.cpu().numpy(), dtype=np.float32)
            yield found


def usual_batch(network: UNet, kind: str) -> int:
    """Slices, or windows in 3D, in one pass on a device of a kind, such as ``cpu``."""
    usual = (4, 32) if network.config.ndim == 2 else (1, 4)
    return usual[kind != "cpu"]


class _Standardised:
    """Slices (n, channels, height, width) of a volume as a network sees them, on its device."""

    def __init__(self, array: NDArray[np.float32] | Pixels, place: torch.device) -> None:
        _, self.depth, self.height, self.width = array.shape
        self._array, self._place = array, place

    def slices(self, start: int, stop: int) -> Tensor:
        part = self._array[:, start:stop] if isinstance(self._array, np.ndarray) else self._array.slab(start, stop)
        pixels = torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32))
        return standardise(pixels.movedim(0, 1).to(self._place))


def _computing(
    logits: Iterator[Tensor], axes: tuple[int, ...], place: torch.device, *, mixed: bool
) -> Iterator[Tensor]:
    """Probabilities of slabs of logits, flipped back; the network runs without gradients, in its precision."""
    while True:
        with torch.inference_mode(), torch.autocast(place.type, dtype=torch.bfloat16, enabled=mixed):
            slab = next(logits, None)
            if slab is None:
                return
            # Softmax in float32 also under autocast.
            probabilities = torch.softmax(slab.float(), dim=0)
            result = probabilities.flip(axes) if axes else probabilities
        yield result


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


def _slicewise(
    network: UNet, source: _Standardised, axes: tuple[int, ...], batch: int, window: tuple[int, int, int]
) -> Iterator[Tensor]:
    """Logits (classes, slices, height, width) of slices flipped along ``axes``, batch by batch."""
    del window
    for start in range(0, source.depth, batch):
        slices = source.slices(start, min(start + batch, source.depth))
        flipped = slices.flip(axes) if axes else slices
        padded = _to_stride(flipped, network.config.stride).contiguous(memory_format=torch.channels_last)
        yield network(padded)[..., : source.height, : source.width].movedim(0, 1)


def _windowed(
    network: UNet, source: _Standardised, axes: tuple[int, ...], batch: int, window: tuple[int, int, int]
) -> Iterator[Tensor]:
    """As :func:`_slicewise`, in overlapping windows."""
    stride = network.config.stride
    shape = [side + -side % stride for side in (source.depth, source.height, source.width)]
    size = [min(side, max(limit - limit % stride, stride)) for side, limit in zip(shape, window, strict=True)]

    def rows(start: int, stop: int) -> Tensor:
        there = source.slices(min(start, source.depth - 1), min(stop, source.depth))
        flipped = there.flip(axes) if axes else there
        # The last slice again for those beyond it.
        missing = (stop - start) - len(there)
        deep = torch.cat([flipped, *[flipped[-1:]] * missing]) if missing else flipped
        return _to_stride(deep.movedim(0, 1)[None], stride, spared=1)

    left = source.depth
    for slab in windowed_logits(network, rows, shape, size, batch):
        kept = slab[:, :left, : source.height, : source.width]
        left -= kept.shape[1]
        if kept.shape[1]:
            yield kept


def _to_stride(images: Tensor, stride: int, spared: int = 0) -> Tensor:
    """Pad the far end of every spatial axis, but the first ``spared``, by its edge up to a multiple of ``stride``."""
    missing = [0 if axis < spared else -side % stride for axis, side in enumerate(images.shape[2:])]
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
