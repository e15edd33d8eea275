"""Slices sampled on a square about a place, and how alike two of them are.

Places are (x, y) in pixels. What is registered is on half of the resolution.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

#: Side of the square that is registered, in steps of 2 pixels.
SIDE = 44
_SMALL = 1e-3


def lattice(centre: Tensor, step: int = 2) -> Tensor:
    """(n, n, 2) places about a centre, ``step`` pixels apart, on the same square whatever the step."""
    count = 2 * SIDE // step
    axis = (torch.arange(count) - (count - 1) / 2) * step
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack([x, y], dim=-1) + centre


def sampled(images: Tensor, places: Tensor, mode: str = "bilinear") -> Tensor:
    """(n, channels, rows, columns) values of (n, channels, height, width) at (n, rows, columns, 2) places."""
    sides = torch.tensor([images.shape[-1], images.shape[-2]])
    return functional.grid_sample(images, (2 * places + 1) / sides - 1, mode=mode, align_corners=False)


def gaussian(images: Tensor, sigma: float) -> Tensor:
    """Blurred (n, 1, height, width)."""
    rows, columns = (_bell(side, sigma) for side in images.shape[-2:])
    return rows @ images @ columns.T


def _bell(side: int, sigma: float) -> Tensor:
    at = torch.arange(float(side))
    weights = torch.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)


def _centre_weight(side: int, sigma: float) -> Tensor:
    at = torch.arange(float(side)) - (side - 1) / 2
    weights = torch.exp(-(at[:, None] ** 2 + at**2) / (2 * sigma**2))
    return weights / weights.sum()


class Likeness:
    """Correlation of small windows with fixed slices, the middle counting most.

    At most 1, for the same up to brightness; next to nothing where slices are flat to a deviation of 0.03.
    """

    def __init__(self, fixed: Tensor, window: int = 5) -> None:
        side = fixed.shape[-1]
        at = torch.arange(side)
        band = ((at[::2, None] - at).abs() <= window // 2).float()
        self.band = band / band.sum(dim=1, keepdim=True)
        self.weight = _centre_weight(len(self.band), 0.27 * len(self.band))
        self.fixed, self.mean = fixed, self._boxed(fixed)
        self.spread = self._boxed(fixed**2) - self.mean**2

    def _boxed(self, values: Tensor) -> Tensor:
        return self.band @ values @ self.band.T

    def __call__(self, moved: Tensor, rows: Tensor | None = None) -> Tensor:
        """(n,) of (n, 1, side, side); ``rows`` says which fixed slice each is compared with."""
        fixed, mean, spread = self.fixed, self.mean, self.spread
        if rows is not None:
            fixed, mean, spread = fixed[rows], mean[rows], spread[rows]
        own = self._boxed(moved)
        both = self._boxed(moved * fixed) - own * mean
        energy = (self._boxed(moved**2) - own**2).clamp_min(0) + _SMALL
        local = both / torch.sqrt(energy * (spread.clamp_min(0) + _SMALL))
        return (local * self.weight).sum(dim=(1, 2, 3))
