"""Smooth displacement fields from a few control points, and the sampling grid they share with an affine map."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

#: A two-dimensional uniform cubic B-spline field cannot fold while every control displacement stays below this
#: share of the control spacing (Choi & Lee, J. Math. Imaging Vis. 2000: 1/2.0464).
FOLD_LIMIT = 0.48


@lru_cache(maxsize=32)
def spline_basis(length: int, intervals: int) -> Tensor:
    """Weights of the control points of a uniform cubic B-spline at every pixel of a line.

    Args:
        length: Number of pixels.
        intervals: Number of knot intervals the line is cut into.

    Returns:
        (length, intervals + 3) float32; each row is non-negative and sums to 1.
    """
    position = (torch.arange(length, dtype=torch.float64) + 0.5) * (intervals / length)
    first = position.floor().clamp(max=intervals - 1)
    u = position - first
    weights = torch.stack(
        [(1 - u) ** 3, 3 * u**3 - 6 * u**2 + 4, -3 * u**3 + 3 * u**2 + 3 * u + 1, u**3],
        dim=1,
    ).div(6)
    basis = torch.zeros(length, intervals + 3, dtype=torch.float64)
    basis.scatter_(1, first.long()[:, None] + torch.arange(4), weights)
    return basis.float()


@lru_cache(maxsize=32)
def _bases(size: tuple[int, int], intervals: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Per axis the columns [1, pixel index, spline weights], so that one product gives affine and elastic parts."""
    axes = []
    for length in size:
        index = torch.arange(length, dtype=torch.float32)
        axes.append(torch.cat([torch.ones(length, 1), index[:, None], spline_basis(length, intervals)], dim=1))
    return axes[0].to(device), axes[1].t().contiguous().to(device)


def source_points(inverse: Tensor, control: Tensor, size: tuple[int, int]) -> Tensor:
    """Source pixel that every view pixel shows: inverse applied to (view pixel + spline displacement there).

    Affine and elastic part are one matrix product per row, so no full-size field is made in between.

    Args:
        inverse: (n, 3, 3) view pixel (x, y, 1) → source pixel.
        control: (n, 2, k, k) displacement (x, y) of the control points, in view pixels; first spatial axis is y.
        size: (height, width) of the view.

    Returns:
        (n, 2, height, width): x and y in source pixels.
    """
    intervals = control.shape[-1] - 3
    down, across = _bases(size, intervals, control.device)
    terms = control.shape[-1] + 2
    weights = control.new_zeros(control.shape[0], 2, terms, terms)
    weights[:, :, 0, 0] = inverse[:, :2, 2]
    weights[:, :, 0, 1] = inverse[:, :2, 0]
    weights[:, :, 1, 0] = inverse[:, :2, 1]
    weights[:, :, 2:, 2:] = torch.einsum("nij,njyx->niyx", inverse[:, :2, :2], control)
    return down @ (weights @ across)
