"""Parts of slices that are hidden, and the error of drawing them."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from fewlabel.core.collective import sum_across, world_size
from fewlabel.core.full_precision import full_precision


def draw_blocks(count: int, size: tuple[int, int], blocks: int, share: float, generator: Generator) -> Tensor:
    """Masks of randomly chosen blocks of a regular grid, without overlap.

    Args:
        count: Number of masks.
        size: (height, width) in pixels.
        blocks: Blocks along each side.
        share: Share of the blocks to hide; rounded to whole blocks, at least one and not all.
        generator: CPU generator.

    Returns:
        (count, height, width) bool, true where hidden; the share is exact where the sides divide by ``blocks``.

    Example:
        >>> masks = draw_blocks(3, (32, 32), 8, 0.75, torch.Generator())
        >>> masks.flatten(1).float().mean(dim=1)
        tensor([0.7500, 0.7500, 0.7500])
    """
    hidden = min(max(round(share * blocks * blocks), 1), blocks * blocks - 1)
    cells = torch.rand(count, blocks * blocks, generator=generator).topk(hidden, dim=1).indices
    grid = torch.zeros(count, blocks * blocks, dtype=torch.bool).scatter_(1, cells, value=True)
    rows, columns = (_block_of(side, blocks) for side in size)
    return grid.view(count, blocks, blocks)[:, rows][:, :, columns]


def central_block(size: tuple[int, int], share: float) -> Tensor:
    """(height, width) bool mask of the central rectangle that covers a share of the image, sides as the image's."""
    mask = torch.zeros(size, dtype=torch.bool)
    high, wide = (max(round(side * math.sqrt(share)), 1) for side in size)
    top, left = (size[0] - high) // 2, (size[1] - wide) // 2
    mask[top : top + high, left : left + wide] = True
    return mask


def block_deviation(images: Tensor, blocks: int) -> Tensor:
    """Standard deviation of each block of a regular grid, at each of its pixels.

    Args:
        images: (n, channels, height, width).
        blocks: Blocks along each side, as of :func:`draw_blocks`.

    Returns:
        (n, height, width) ≥ 0 in full precision, the root of the mean over channels of a block's variance.

    Example:
        >>> image = torch.zeros(1, 1, 4, 4)
        >>> image[0, 0, :2, :2] = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
        >>> block_deviation(image, 2)[0]
        tensor([[1., 1., 0., 0.],
                [1., 1., 0., 0.],
                [0., 0., 0., 0.],
                [0., 0., 0., 0.]])
    """
    values = full_precision(images)
    rows, columns = (_block_of(side, blocks).to(values.device) for side in values.shape[2:])
    # (blocks, side): the mean over a block's rows, and over its columns.
    down, across = (
        (index == torch.arange(blocks, device=values.device)[:, None]).to(values.dtype) for index in (rows, columns)
    )
    down, across = (side / side.sum(dim=1, keepdim=True) for side in (down, across))

    def mean(part: Tensor) -> Tensor:
        return (down @ part @ across.T)[:, :, rows][:, :, :, columns]

    return mean((values - mean(values)).square()).mean(dim=1).sqrt()


def hidden_error(drawn: Tensor, images: Tensor, hidden: Tensor, weights: Tensor | None = None) -> Tensor:
    """Σ w M (x - x̂)² / Σ w M, as this rank's share of the value on the joined batch (Pathak et al., Eq. 1, normalised).

    Args:
        drawn: (n, channels, height, width) x̂.
        images: (n, channels, height, width) x.
        hidden: (n, height, width) bool M.
        weights: (n, height, width) w ≥ 0; None for 1 everywhere. Where all are 0, so is the error.

    Returns:
        Scalar ≥ 0 in full precision; its gradient is 0 outside of M.

    Example:
        >>> image = torch.tensor([[[[1.0, 3.0]]]])
        >>> hidden_error(torch.zeros_like(image), image, torch.tensor([[[True, False]]]))
        tensor(1.)
    """
    squared = (full_precision(drawn) - full_precision(images)).square().mean(dim=1)
    shares = hidden.to(squared.dtype) if weights is None else weights.to(squared.dtype).masked_fill(~hidden, 0)
    total = sum_across(shares.sum())
    return (squared * shares).sum() * world_size() / total.clamp_min(torch.finfo(squared.dtype).tiny)


def _block_of(side: int, blocks: int) -> Tensor:
    """(side,) the block that each row or column lies in."""
    return torch.arange(side) * blocks // side
