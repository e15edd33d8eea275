"""How many slices or windows a network can take at once in the memory that there is."""

from __future__ import annotations

import torch

from fewlabel.core.memory_limit import memory_left
from fewlabel.engine.inference import WINDOW, usual_batch
from fewlabel.nets.unet import UNet

#: Maps of the finest level that are in memory at once, in terms of the network's width: skips, what is joined to them,
#: and what a convolution reads and writes; measured on a CPU (``benchmarks/run.py --suite memory``), with reserve.
_MAPS = 8
#: Share of the memory there is that a batch may take.
_SHARE = 0.5


def fitting_batch(
    network: UNet,
    size: tuple[int, int],
    device: str,
    *,
    batch: int = 0,
    window: tuple[int, int, int] = WINDOW,
    left: int | None = None,
) -> int:
    """The batch that is asked for, or as many slices or windows as fit: one at least.

    Args:
        network: Predicts.
        size: (height, width) of a prepared slice.
        device: Where to.
        batch: As of :func:`fewlabel.engine.inference.predict_slabs`.
        window: Largest window of a 3D network.
        left: Bytes there are; None for what the device, or the machine, has now.
    """
    wanted = batch or usual_batch(network, device)
    if left is None:
        left = torch.cuda.mem_get_info()[0] if device == "cuda" else memory_left()
    if left is None:
        return wanted
    pixels = size[0] * size[1]
    if network.config.ndim == 3:
        pixels = window[0] * min(window[1], size[0]) * min(window[2], size[1])
    each = 4 * pixels * (_MAPS * network.config.widths[0] + network.config.in_channels + 3 * network.classes)
    return max(1, min(wanted, int(_SHARE * left) // each))
