"""Points of a slice: drawing them in the regions of a grid, and reading a map where they are.

Points are (x, y) in pixels, as in :mod:`fewlabel.objectives.correspondence`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fewlabel.core.full_precision import full_precision


def sample_map(features: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
    """A map read between its cells, bilinearly; beyond the outermost centres its border goes on.

    At the centre of a cell it gives that cell, as ``grid_sample`` with ``align_corners=False`` does. It is written as
    a product with a few weights, because the backward pass of ``grid_sample`` adds up in no fixed order on a GPU.

    Args:
        features: (n, channels, rows, columns).
        points: (n, p, 2) pixels of the view.
        size: (height, width) of the view, in pixels.

    Returns:
        (n, p, channels), float32 (float64 for float64 maps).
    """
    rows, columns = features.shape[-2:]
    with torch.autocast(features.device.type, enabled=False):
        values = full_precision(features)
        across, down = (
            _hats(points[..., axis].to(values.dtype), count, length)
            for axis, count, length in ((0, columns, size[1]), (1, rows, size[0]))
        )
        weights = (down[..., :, None] * across[..., None, :]).flatten(2)
        return weights @ values.flatten(2).transpose(1, 2)


def _hats(positions: Tensor, count: int, length: int) -> Tensor:
    """Weights (..., count) of a line's cells at positions (...) in pixels; they sum to 1."""
    place = ((positions + 0.5) * (count / length) - 0.5).clamp(0, count - 1)
    cells = torch.arange(count, device=positions.device, dtype=positions.dtype)
    return (1 - (place[..., None] - cells).abs()).clamp_min(0)


def grid_points(uniform: Tensor, grid: int, size: tuple[int, int]) -> Tensor:
    """Random source points in the regions of a grid laid over the source.

    Args:
        uniform: (..., grid * grid, k, 2) numbers in [0, 1): where in its region a point lies, regions row by row.
        grid: Regions along each side.
        size: (height, width) of the source, in pixels.

    Returns:
        Points (x, y), shaped like ``uniform``.
    """
    region = torch.arange(grid * grid, device=uniform.device)
    corner = torch.stack([region % grid, region // grid], dim=1)[:, None]
    sides = uniform.new_tensor([size[1] / grid, size[0] / grid])
    return (corner + uniform) * sides - 0.5


def keep_first(points: Tensor, allowed: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` allowed points of each row, filled up with others where there are too few.

    Args:
        points: (..., k, 2) with k >= ``count``.
        allowed: (..., k) bool.
        count: Points to keep.

    Returns:
        Points (..., count, 2) and (..., count) bool, whether they are allowed.
    """
    order = allowed.to(torch.uint8).argsort(dim=-1, descending=True, stable=True)[..., :count]
    return points.gather(-2, order[..., None].expand(*order.shape, 2)), allowed.gather(-1, order)
