"""Contrast of regions inside one image: where they lie, which are neighbours, and the loss (Chaitanya et al., 2020).

Two copies of an image differ in intensities only, so a region shows the same anatomy in both. For unit vectors f1_r and
f2_r of region r in the two copies, and its neighbours N(r)::

    ℓ(r) = -log( e^{f1_r·f2_r/τ} / ( e^{f1_r·f2_r/τ} + Σ_{q∈N(r)} [ e^{f1_r·f1_q/τ} + e^{f1_r·f2_q/τ} ] ) )

and the same with the copies exchanged; the loss is the mean over copies, regions and images (NeurIPS 2020, local loss).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from fewlabel.objectives.contrastive import similarity_logits


def lattice(order: int, size: tuple[int, int], window: int) -> Tensor:
    """Centres of n² + (n-1)² regions: an n x n lattice that reaches the borders, and the middles of its cells.

    Args:
        order: n ≥ 2; 3 gives 13 regions.
        size: (height, width) of the map.
        window: Odd side of a region in pixels of the map.

    Returns:
        (regions, 2) int64 rows and columns, row by row.

    Raises:
        ValueError: If regions would overlap or leave the map.
    """
    half = window // 2
    lines = [torch.linspace(half, side - 1 - half, 2 * order - 1).round().long() for side in size]
    places = [(row, column) for row in range(2 * order - 1) for column in range(row % 2, 2 * order - 1, 2)]
    centres = torch.stack([torch.stack([lines[0][row], lines[1][column]]) for row, column in places])
    gaps = (centres[:, None] - centres).abs().amax(dim=2).fill_diagonal_(window)
    if int(gaps.min()) < window:
        sides = f"{window}x{window}"
        raise ValueError(f"{len(centres)} regions of {sides} pixels overlap on a map of {size[0]}x{size[1]}")
    return centres


def fits(order: int, size: tuple[int, int], window: int) -> bool:
    """Whether the regions of :func:`lattice` lie side by side on a map."""
    try:
        lattice(order, size, window)
    except ValueError:
        return False
    return True


def nearest_regions(centres: Tensor, count: int) -> Tensor:
    """The ``count`` other regions closest to each: (regions, 2) to (regions, count) int64; ties by their order.

    The published table lists some regions that are not next to each other; here geometry decides.

    Raises:
        ValueError: If there are not as many others.
    """
    if not 1 <= count < len(centres):
        raise ValueError(f"a region of {len(centres)} has 1 to {len(centres) - 1} neighbours, not {count}")
    squared = (centres[:, None] - centres).square().sum(dim=2).fill_diagonal_(torch.iinfo(torch.int64).max)
    return squared.sort(dim=1, stable=True).indices[:, :count]


def window_pixels(centres: Tensor, window: int, width: int) -> Tensor:
    """Flat indices of each region's pixels in a map of a width: (regions, 2) to (regions, window²) int64."""
    offsets = torch.arange(window) - window // 2
    rows = centres[:, :1, None] + offsets[:, None]
    columns = centres[:, 1:, None] + offsets
    return (rows * width + columns).flatten(1)


def region_contrast(first: Tensor, second: Tensor, neighbours: Tensor, temperature: float) -> Tensor:
    """The loss of the module, as the mean over these images; all ranks hold equally many.

    Args:
        first: (n, regions, d) unit vectors of the regions of one copy.
        second: (n, regions, d) of the other.
        neighbours: (regions, k) int64, N(r).
        temperature: τ.

    Returns:
        Scalar in full precision.
    """
    between = similarity_logits(first, second, temperature)
    losses = [
        _one_way(similarity_logits(first, first, temperature), between, neighbours),
        _one_way(similarity_logits(second, second, temperature), between.transpose(1, 2), neighbours),
    ]
    return torch.stack(losses).mean()


def _one_way(within: Tensor, between: Tensor, neighbours: Tensor) -> Tensor:
    """ℓ(r) (n, regions) of one copy's regions as anchors, from similarities (n, regions, regions)."""
    indices = neighbours.expand(len(within), *neighbours.shape)
    negatives = torch.cat([within.gather(2, indices), between.gather(2, indices)], dim=2).logsumexp(dim=2)
    return functional.softplus(negatives - between.diagonal(dim1=1, dim2=2), threshold=50)


def collapsed_value(neighbours: int) -> float:
    """The loss when all regions are equal: log(1 + 2k)."""
    return math.log(1 + 2 * neighbours)


def lower_bound(neighbours: int, temperature: float) -> float:
    """What the loss cannot fall below: log(1 + 2k e^{-2/τ})."""
    return math.log1p(2 * neighbours * math.exp(-2 / temperature))
