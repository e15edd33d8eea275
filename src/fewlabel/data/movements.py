"""Velocities that move the structures of a slice: surfaces outwards or inwards, walls thicker or thinner, all elsewhere.

Each is about one surface, a function of the signed distance to it, and 0 beyond a reach. In a unit of time a surface
goes just as far as it should, since along its way the velocity stays what it is at the start.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp

import torch
from torch import Tensor

from fewlabel.data.surfaces import SIZES, Surface, Wall

#: Share of a structure's depth that gives way when its surface moves, and of a wall that does when the inner one does.
GIVES = 0.9
#: Largest share of what gives way by which a surface moves into it.
FURTHEST = 0.7
#: Least reach of a movement, in pixels.
LEAST_REACH = 4.0
#: Pixels from the border of the image within which movements towards it slow down.
BORDER = 8


def offset_for(surface: Surface, size: float) -> float:
    """How far a surface moves, in pixels, outwards if positive.

    Args:
        surface: Of a structure. One that is 2 pixels deep or less does not move, and from 3 it moves in full.
        size: Logarithm of the factor on the square root of its area, within those of ``SIZES``.
    """
    place = (size - float(SIZES[0])) / float(SIZES[1] - SIZES[0])
    first = min(int(place), len(SIZES) - 2)
    low, high = surface.offsets[first : first + 2]
    offset = _certain(surface) * (low + (place - first) * (high - low))
    return max(offset, -FURTHEST * GIVES * surface.depth)


def pushed(surface: Surface, offset: float, reach: float, device: torch.device) -> Tensor:
    """Velocity (2, height, width) that moves a surface along its normal.

    Args:
        surface: Of a structure; nearly all of its depth gives way evenly.
        offset: Pixels outwards, at least ``-FURTHEST * GIVES`` times the depth.
        reach: Pixels beyond the surface, before and after, within which the surroundings give way.
        device: Where to compute it.
    """
    distance, normal = surface.distance.to(device).float(), surface.normal.to(device).float()
    deep = GIVES * surface.depth
    inner = ((distance + deep) / (min(offset, 0.0) + deep)).clamp(0, 1)
    outer = smooth_step((max(offset, 0.0) + reach - distance) / reach)
    return normal * (inner * outer * offset)


def shifted(surface: Surface, shift: Tensor, swept: float, reach: float, device: torch.device) -> Tensor:
    """Velocity (2, height, width) that moves a structure as it is.

    Args:
        surface: Of the structure.
        shift: (2,) pixels in x and in y.
        swept: Pixels beyond the surface that the structure may get to.
        reach: Pixels beyond those within which the surroundings give way.
        device: Where to compute it.
    """
    distance = surface.distance.to(device).float()
    return shift.to(device)[:, None, None] * smooth_step((swept + reach - distance) / reach)


def thickened(wall: Wall, factor: float, device: torch.device) -> Tensor:
    """Velocity (2, height, width) that moves the inner surface of a wall; the outer one stays exactly.

    Args:
        wall: Its thickness nearby says how far: a wall is thickened or thinned in proportion all around.
        factor: Logarithm of the factor on the thickness.
        device: Where to compute it.
    """
    distance, normal = wall.cavity.distance.to(device).float(), wall.cavity.normal.to(device).float()
    deep = GIVES * wall.cavity.depth
    offset = wall.thickness.to(device).float() * (_certain(wall.cavity) * (1 - exp(factor)))
    offset = offset.clamp_min_(-FURTHEST * deep)
    # Where the wall ends differs from place to place.
    end = GIVES * (distance.clamp_min(0) + wall.room.to(device).float().clamp_min(0))
    outwards = torch.minimum(offset.clamp_min(0), FURTHEST * end)
    outer = torch.where(distance <= 0, 1.0, ((end - distance) / (end - outwards).clamp_min(1e-3)).clamp(0, 1))
    inner = ((distance + deep) / (offset.clamp_max(0) + deep)).clamp(0, 1)
    return normal * (inner * outer * offset)


def smooth_step(share: Tensor) -> Tensor:
    """0 up to 0, 1 from 1, and a smooth way between."""
    share = share.clamp(0, 1)
    return share * share * (3 - 2 * share)


@lru_cache(maxsize=32)
def border_window(size: tuple[int, int], device: torch.device) -> Tensor:
    """(2, height, width): 1, and down to 0 towards the borders that x and that y meet, so that nothing crosses them."""
    height, width = (
        torch.minimum(torch.arange(side), torch.arange(side).flip(0)).div(min(BORDER, max(side // 4, 1))).clamp(0, 1)
        for side in size
    )
    return torch.stack([width.expand(size), height[:, None].expand(size)]).to(device)


def _certain(surface: Surface) -> float:
    """0 for a structure too small to tell its surfaces apart, 1 from a depth of 3 pixels."""
    return min(max(surface.depth - 2, 0.0), 1.0)
