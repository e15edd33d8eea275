"""Slices mixed with each other: who with whom, in what shares, and where a box of one lies on the other.

Partners are rows of the joined batch and all draws are made for it, so many processes mix as one does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from fewlabel.core.collective import gather, world_size
from fewlabel.objectives.batch_noise_and_turns import own_part


def partners(count: int, generator: Generator) -> Tensor:
    """For each of this rank's rows another row of the joined batch.

    All rows of the joined batch lie on one circle in random order, and a row's partner is the next: every row is a
    partner once, and none its own unless it is alone.

    Args:
        count: Rows of this rank.
        generator: CPU generator, equal on all ranks.

    Returns:
        (count,) int64 rows of the joined batch.
    """
    order = torch.randperm(count * world_size(), generator=generator)
    partner = torch.empty_like(order)
    partner[order] = order.roll(1)
    return own_part(partner)


def position_partners(positions: Tensor, generator: Generator) -> Tensor:
    """As :func:`partners`, but a row's partner is the nearest to it in position that is not yet taken.

    Rows of the joined batch are sorted by position, then paired off from a random end: the first with the second and so
    on, or the second with the third. A first or last row that is left without a pair goes with its neighbour.

    Args:
        positions: (count,) of this rank's rows.
        generator: CPU generator, equal on all ranks.

    Returns:
        (count,) int64 rows of the joined batch.
    """
    joined = gather(positions.detach()).cpu()
    order = joined.argsort(stable=True)
    partner = torch.arange(len(order))
    for first in range(int(torch.randint(2, (), generator=generator)), len(order) - 1, 2):
        one, other = order[first], order[first + 1]
        partner[one], partner[other] = other, one
    for end, neighbour in ((0, 1), (-1, -2)) if len(order) > 1 else ():
        if partner[order[end]] == order[end]:
            partner[order[end]] = order[neighbour]
    return own_part(partner)


def matches(count: int, pool: int, generator: Generator) -> Tensor:
    """For each of this rank's rows a row of another joined stream, all of them used equally often (up to one).

    Args:
        count: Rows of this rank.
        pool: Rows of the other stream on this rank, at least 1.
        generator: CPU generator, equal on all ranks.

    Returns:
        (count,) int64 rows of the other joined stream.
    """
    order = torch.randperm(pool * world_size(), generator=generator)
    places = torch.randperm(count * world_size(), generator=generator) % len(order)
    return own_part(order[places])


def beta_shares(count: int, alpha: float, generator: Generator) -> Tensor:
    """λ ~ Beta(α, α) for each of this rank's rows: (count,) float64 in [0, 1], on the CPU."""
    seed = int(torch.randint(2**53, (), generator=generator))
    return own_part(torch.from_numpy(np.random.default_rng(seed).beta(alpha, alpha, count * world_size())))


def mix(first: Tensor, second: Tensor, shares: Tensor) -> Tensor:
    """λ a + (1 - λ) b row by row.

    Args:
        first: a, (n, ...).
        second: b, the same shape.
        shares: λ, (n,).
    """
    share = shares.to(first).view(-1, *[1] * (first.dim() - 1))
    return share * first + (1 - share) * second


def random_boxes(
    count: int, space: Sequence[int], share: tuple[float, float], ratio: float, generator: Generator
) -> Tensor:
    """A box of random size and shape at a random place of each of this rank's rows (CutMix).

    Args:
        count: Rows of this rank.
        space: Size of an image, two axes or three.
        share: Least and largest share of the image that a box takes, each above 0 and up to 1; drawn uniformly.
        ratio: Largest ratio of its sides, each over the side of the image; the logarithm of each side is drawn
            uniformly. A side that would be longer than the image is as long, and the others make up for it; each is
            rounded to whole pixels, one at least.
        generator: CPU generator, equal on all ranks.

    Returns:
        (count, *space) bool, true inside; on the CPU. Every place where the box lies within the image is as likely.
    """
    axes = len(space)
    drawn = own_part(torch.rand(count * world_size(), 1 + 2 * axes, generator=generator, dtype=torch.float64))
    wanted = share[0] + (share[1] - share[0]) * drawn[:, 0]
    stretch = (drawn[:, 1 : 1 + axes] - 0.5) * math.log(ratio)
    sides = torch.exp(stretch - stretch.mean(dim=1, keepdim=True)) * wanted[:, None] ** (1 / axes)
    for _ in range(axes - 1):
        # What a side is cut by goes to the shorter ones.
        free = sides < 1
        grown = (wanted / torch.where(free, sides, 1.0).prod(dim=1)) ** (1 / free.sum(dim=1).clamp(min=1))
        sides = torch.where(free, sides * grown[:, None], 1.0)
    inside = torch.ones(count, *[1] * axes, dtype=torch.bool)
    for axis, length in enumerate(space):
        size = (sides[:, axis].clamp(max=1) * length).round().clamp(min=1)
        start = (drawn[:, 1 + axes + axis] * (length - size + 1)).floor()
        place = torch.arange(length)
        along = (place >= start[:, None]) & (place < (start + size)[:, None])
        inside = inside & along.view(count, *[length if other == axis else 1 for other in range(axes)])
    return inside


def boxes(count: int, space: Sequence[int], side: float, generator: Generator) -> Tensor:
    """A box at a random place of each of this rank's rows, its sides a share of the sides of the image.

    Args:
        count: Rows of this rank.
        space: Size of an image, two axes or three.
        side: Side of the box over side of the image, in [0, 1]; rounded to whole pixels.
        generator: CPU generator, equal on all ranks.

    Returns:
        (count, *space) bool, true inside; on the CPU. Every place where the box lies within the image is as likely.
    """
    inside = torch.ones(count, *[1] * len(space), dtype=torch.bool)
    for axis, length in enumerate(space):
        size = round(side * length)
        start = own_part(torch.randint(length - size + 1, (count * world_size(),), generator=generator))[:, None]
        place = torch.arange(length)
        along = (place >= start) & (place < start + size)
        inside = inside & along.view(count, *[length if other == axis else 1 for other in range(len(space))])
    return inside
