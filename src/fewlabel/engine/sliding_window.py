"""Logits of a 3D network in overlapping windows, handed out slab by slab: of a volume, one row of windows is held.

The windows, their order and their Gaussian weights are those of MONAI's ``SlidingWindowInferer`` (overlap one half),
and so is every bit of the result; MONAI keeps the logits of all classes for the whole volume until the last window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

Window = tuple[slice, slice, slice]


def windowed_logits(
    network: Callable[[Tensor], Tensor],
    rows: Callable[[int, int], Tensor],
    shape: Sequence[int],
    size: Sequence[int],
    batch: int,
) -> Iterator[Tensor]:
    """Logits (classes, slices, height, width) of consecutive slabs along the first axis of a volume.

    Args:
        network: (n, channels, *size) → (n, classes, *size).
        rows: The voxels (1, channels, stop - start, height, width) of slices ``start`` to ``stop``, float32.
        shape: (depth, height, width) of the volume.
        size: Of a window, nowhere larger than the volume.
        batch: Windows in one pass.
    """
    from monai.data.utils import compute_importance_map, dense_patch_slices

    steps = [side if side == whole else max(1, side // 2) for side, whole in zip(size, shape, strict=True)]
    windows = [(window[0], window[1], window[2]) for window in dense_patch_slices(shape, size, steps)]
    sums: _Sums | None = None
    first = None
    held: Tensor = torch.empty(0)
    for begin in range(0, len(windows), batch):
        chosen = windows[begin : begin + batch]
        start, stop = chosen[0][0].start, chosen[-1][0].stop
        if first is None or start > first or stop > first + held.shape[2]:
            first, held = start, rows(start, stop)
        cut = [held[:, :, down.start - first : down.stop - first, high, wide] for down, high, wide in chosen]
        logits = network(torch.cat(cut) if batch > 1 else cut[0])
        if sums is None:
            weights = compute_importance_map(tuple(size), mode="gaussian", device=held.device, dtype=held.dtype)
            sums = _Sums(weights, logits.shape[1], shape)
        logits *= sums.weights
        for window, each in zip(chosen, logits, strict=True):
            if window[0].start > sums.first:
                yield sums.finished(window[0].start)
            sums.add(window, each)
    if sums is not None:
        yield sums.finished(shape[0])


class _Sums:
    """Weighted sums of the slices that windows may still be added to.

    Args:
        weights: Of the voxels of a window.
        classes: Of the network.
        shape: (depth, height, width) of the volume.
    """

    def __init__(self, weights: Tensor, classes: int, shape: Sequence[int]) -> None:
        self.weights = weights
        self.first = 0
        deep, plane = weights.shape[0], shape[1:]
        self._logits = torch.zeros((classes, deep, *plane), dtype=weights.dtype, device=weights.device)
        self._weight = torch.zeros((deep, *plane), dtype=weights.dtype, device=weights.device)

    def add(self, window: Window, logits: Tensor) -> None:
        """Add weighted logits (classes, *size)."""
        _, high, wide = window
        self._logits[:, :, high, wide] += logits
        self._weight[:, high, wide] += self.weights

    def finished(self, first: int) -> Tensor:
        """The mean logits of all slices before ``first``, to which no window is added any more."""
        count = first - self.first
        done = self._logits[:, :count] / self._weight[:count]
        for sums, axis in ((self._logits, 1), (self._weight, 0)):
            rest = sums.narrow(axis, count, sums.shape[axis] - count).clone()
            sums.zero_().narrow(axis, 0, rest.shape[axis]).copy_(rest)
        self.first = first
        return done
