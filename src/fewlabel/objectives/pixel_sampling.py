"""Which pixels of a map take part in a pixel-wise loss, whose cost is quadratic in their number.

Pixels are named by their place in raster order, ``row * width + column``. ``strided`` and ``aligned_blocks`` are the
two reductions of SSCL (Hu et al., MICCAI 2021, arXiv 2109.07407); ``per_class`` draws equally many of each class.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def strided(height: int, width: int, stride: int, device: torch.device | str = "cpu") -> Tensor:
    """Every ``stride``-th pixel of every ``stride``-th row, from the first: ``map[::stride, ::stride]``.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        stride: Step in pixels, 1 or more.
        device: Device of the result.

    Returns:
        (pixels,) int64, ascending.

    Raises:
        ValueError: If the stride is below 1.
    """
    if stride < 1:
        raise ValueError(f"a stride of 1 pixel or more is needed, not {stride}")
    return _places(height, width, device)[::stride, ::stride].reshape(-1)


def aligned_blocks(height: int, width: int, size: int, device: torch.device | str = "cpu") -> list[Tensor]:
    """Blocks of ``size`` x ``size`` pixels that tile the map from its first pixel.

    What is left over at the right and the bottom makes smaller blocks, so that every pixel is in exactly one.

    Args:
        height: Rows of the map.
        width: Columns of the map.
        size: Side of a block in pixels, 1 or more.
        device: Device of the result.

    Returns:
        One (pixels,) int64 tensor per block, ascending; blocks in raster order.

    Raises:
        ValueError: If the size is below 1.
    """
    if size < 1:
        raise ValueError(f"a block of 1 pixel or more is needed, not {size}")
    bands = torch.split(_places(height, width, device), size, dim=0)
    return [block.reshape(-1) for band in bands for block in torch.split(band, size, dim=1)]


def per_class(labels: Tensor, classes: int, count: int, generator: Generator) -> list[Tensor]:
    """Up to ``count`` pixels of each class of each row, drawn evenly and without replacement.

    Args:
        labels: (rows, pixels) class indices; a pixel whose index is not below ``classes`` is never drawn.
        classes: Number of classes.
        count: Pixels wanted of each class; all are taken where a class has no more.
        generator: CPU generator; what is drawn from it does not depend on the labels.

    Returns:
        For each row the (drawn,) int64 places, class by class, in random order within a class.
    """
    drawn = []
    for row in labels:
        # Visited in random order, the first of a class are an even draw; there are no ties to break.
        order = torch.randperm(len(row), generator=generator).to(row.device)
        visited = row[order]
        drawn.append(torch.cat([order[(visited == label).nonzero().flatten()[:count]] for label in range(classes)]))
    return drawn


def _places(height: int, width: int, device: torch.device | str) -> Tensor:
    return torch.arange(height * width, device=device).view(height, width)
