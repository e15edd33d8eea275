"""Slices mixed with each other: who with whom, in what shares, and where a rectangle of one lies on the other.

Partners are rows of the joined batch and all draws are made for it, so many processes mix as one does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Generator, Tensor

from fewlabel.core.collective import world_size
from fewlabel.objectives.perturbation import own_part


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
    found = torch.empty_like(order)
    found[order] = order.roll(1)
    return own_part(found)


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
