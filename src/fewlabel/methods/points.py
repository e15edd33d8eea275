"""Points of a grid's regions in two views, and keys of other slices (Point-level Region Contrast)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from fewlabel.core.collective import gather, rank, world_size
from fewlabel.data.batch import PretrainBatch
from fewlabel.objectives.correspondence import shown, to_view
from fewlabel.objectives.point_sampling import grid_points, keep_first, sample_map


@dataclass(frozen=True)
class Points:
    """Points of n views, p in each, region by region.

    Attributes:
        places: (n, p, 2) view pixels (x, y).
        real: (n, p) bool, whether the view shows the point; a region of which it shows too little is filled up.
        regions: (p,) int64.
        size: (height, width) of a view, in pixels.
    """

    places: Tensor
    real: Tensor
    regions: Tensor
    size: tuple[int, int]

    def read(self, features: Tensor) -> Tensor:
        """A map (n, channels, rows, columns) at the points: (n, p, channels), full precision."""
        return sample_map(features, self.places, self.size)


def draw_points(batch: PretrainBatch, grid: int, drawn: int, kept: int) -> tuple[Points, Points]:
    """Random points of every region of the source slice, drawn for each view apart: those of both views.

    Args:
        batch: This rank's part; the generator draws for the joined batch.
        grid: Regions along each side.
        drawn: Points drawn in each region.
        kept: Points kept of them, the first that the view shows.
    """
    count, device = len(batch.slices), batch.views[0].device
    uniform = torch.rand(2, count * world_size(), grid * grid, drawn, 2, generator=batch.generator)
    own = uniform[:, rank() * count : (rank() + 1) * count].to(device)
    size = (batch.views[0].shape[-2], batch.views[0].shape[-1])
    regions = torch.arange(grid * grid, device=device).repeat_interleave(kept)
    views = []
    for numbers, matrices in zip(own, batch.matrices, strict=True):
        points = grid_points(numbers, grid, size)
        visible = shown(matrices, points.flatten(1, 2), size).view(points.shape[:-1])
        kept_points, real = keep_first(points, visible, kept)
        views.append(Points(to_view(matrices, kept_points.flatten(1, 2)), real.flatten(1), regions, size))
    return views[0], views[1]


@dataclass(frozen=True)
class ForeignKeys:
    """Keys that any slice's anchors may be held against.

    Attributes:
        rows: (f, dim) unit vectors.
        allowed: (n, f) bool, real points of another slice than the anchor's.
    """

    rows: Tensor
    allowed: Tensor


def foreign_keys(
    keys: Tensor, real: Tensor, owners: Tensor, mine: Tensor, count: int, generator: Generator
) -> ForeignKeys:
    """A random sample of the joined batch's keys; those of a slice that is in the batch twice are not foreign to it.

    Args:
        keys: (n, p, dim) of this rank, without gradient.
        real: (n, p) bool.
        owners: (S,) int64 slices of the joined batch.
        mine: (n,) int64 where this rank's slices lie among them.
        count: Keys to draw of the S * p, without replacement.
        generator: CPU generator.
    """
    joined, shows = gather(keys), gather(real.to(torch.uint8)).flatten().bool()
    drawn = torch.randperm(len(shows), generator=generator)[:count].to(keys.device)
    whose = owners[drawn // keys.shape[1]]
    allowed = shows[drawn] & (owners[mine][:, None] != whose)
    return ForeignKeys(joined.flatten(0, 1)[drawn], allowed)
