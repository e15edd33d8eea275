"""Random changes of maps inside a network, drawn for each slice, the same on one process and on many.

Those of cross-consistency training (Ouali et al., CVPR 2020), each a function of one map (n, channels, *space). The
rows of a map may come from several streams, labelled and unlabelled slices for one: ``parts`` says how many of each, in
order, so that what is drawn for a row does not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from fewlabel.core.collective import world_size
from fewlabel.core.full_precision import full_precision
from fewlabel.objectives.batch_noise_and_turns import own_part, row_seeds


def noisy(features: Tensor, parts: Sequence[int], limit: float, generator: Generator) -> Tensor:
    """Each entry times 1 + ν, ν uniform in [-limit, limit] (F-Noise).

    Args:
        features: This rank's maps.
        parts: Rows of each stream.
        limit: Largest relative change; 0 changes nothing.
        generator: CPU generator, equal on all ranks.
    """
    noise = torch.empty_like(full_precision(features.detach()))
    device = torch.Generator(features.device)
    for row, seed in enumerate(seed for count in parts for seed in row_seeds(count, generator)):
        device.manual_seed(seed)
        noise[row].uniform_(-limit, limit, generator=device)
    return features * (1 + noise).to(features.dtype)


def channels_dropped(features: Tensor, parts: Sequence[int], share: float, generator: Generator) -> Tensor:
    """Whole channels set to 0, each with probability ``share``; the others times 1 / (1 - share) (F-Drop, spatial).

    Args:
        features: This rank's maps.
        parts: Rows of each stream.
        share: In [0, 1).
        generator: CPU generator, equal on all ranks.
    """
    kept = channel_factors(parts, features.shape[1], share, generator).to(features)
    return features * _over_space(kept, features)


def channel_factors(parts: Sequence[int], channels: int, share: float, generator: Generator) -> Tensor:
    """Factors of dropout for this rank's rows: (Σ parts, channels), 0 or 1 / (1 - share)."""
    return (_drawn(parts, channels, generator) >= share).float() / (1 - share)


def active_dropped(features: Tensor, parts: Sequence[int], low: float, high: float, generator: Generator) -> Tensor:
    """Pixels whose mean over channels is at least γ times the slice's largest set to 0, γ uniform in [low, high].

    This hides what the map looks at (F-Drop of the paper, guided by activation). Above 1 nothing is dropped.

    Args:
        features: This rank's maps, ≥ 0 where they are behind a ReLU.
        parts: Rows of each stream.
        low: Lowest γ.
        high: Highest γ.
        generator: CPU generator, equal on all ranks.
    """
    drawn = _drawn(parts, 1, generator).to(features.device)
    gamma = _over_space(low + (high - low) * drawn, features)
    attention = full_precision(features.detach()).mean(dim=1, keepdim=True)
    largest = attention.flatten(1).amax(dim=1)[:, None]
    return features * (attention < gamma * _over_space(largest, features)).to(features.dtype)


def _drawn(parts: Sequence[int], columns: int, generator: Generator) -> Tensor:
    """Uniform numbers in [0, 1) for this rank's rows: (Σ parts, columns)."""
    return torch.cat([own_part(torch.rand(count * world_size(), columns, generator=generator)) for count in parts])


def _over_space(rows: Tensor, features: Tensor) -> Tensor:
    """(n, k) as (n, k, 1, ...), to go with maps."""
    return rows.view(*rows.shape, *[1] * (features.dim() - 2))
