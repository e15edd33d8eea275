"""Random changes of a batch that look the same on one process and on many."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from fewlabel.core.collective import rank, world_size


def row_seeds(count: int, generator: Generator) -> list[int]:
    """A seed for each of this rank's ``count`` rows, drawn for the joined batch."""
    drawn = torch.randint(2**53, (count * world_size(),), generator=generator)
    return [int(seed) for seed in drawn[rank() * count : (rank() + 1) * count]]


def gaussian_noise(images: Tensor, deviation: float, limit: float, generator: Generator) -> Tensor:
    """Noise of a row's own seed: N(0, deviation²), cut to ±limit, the shape of ``images`` (n, ...).

    Args:
        images: This rank's rows.
        deviation: Standard deviation, in units of the images.
        limit: Largest absolute value.
        generator: CPU generator, equal on all ranks.
    """
    noise = torch.empty_like(images)
    device = torch.Generator(images.device)
    for row, seed in enumerate(row_seeds(len(images), generator)):
        device.manual_seed(seed)
        noise[row].normal_(0, deviation, generator=device)
    return noise.clamp_(-limit, limit)


def own_part(joined: Tensor) -> Tensor:
    """This rank's rows of a tensor that was drawn for the joined batch."""
    count = len(joined) // world_size()
    return joined[rank() * count : (rank() + 1) * count]


def quarter_turns(maps: Tensor, turns: Sequence[int]) -> Tensor:
    """Turn each map in the plane of its last two axes, by its number of quarter turns, from the first to the second.

    Args:
        maps: (n, ..., height, width); odd turns need equal sides where rows turn differently.
        turns: n whole numbers; 0, 4 and so on leave a row as it is.
    """
    return torch.stack([torch.rot90(row, turn, (-2, -1)) for row, turn in zip(maps, turns, strict=True)])
