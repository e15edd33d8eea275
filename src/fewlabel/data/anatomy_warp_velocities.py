"""Velocities that move the structures of a slice: surfaces outwards or inwards, walls thicker or thinner.

Each is about one surface, a function of the signed distance to it, and 0 beyond a reach. In a unit of time a surface
goes just as far as it should, since along its way the velocity stays what it is at the start.
"""

from __future__ import annotations

from functools import lru_cache
from math import exp

import torch
from torch import Tensor

from fewlabel.data.structure_distances import Surface, Wall

#: Share of a structure's depth that gives way when its surface moves, and of a wall that does when the inner one does.
GIVES = 0.9
#: Largest share of what gives way by which a surface moves into it.
FURTHEST = 0.7
#: Least reach of a movement, in pixels.
LEAST_REACH = 4.0
#: Pixels from the border of the image within which movements towards it slow down.
BORDER = 8


def swelling(surface: Surface, size: float) -> float:
    """Share of its half-width by which a surface moves outwards.

    Args:
        surface: Of a structure. One that is 2 pixels deep or less does not move, and from 3 it moves in full.
        size: Logarithm of the factor on its half-width, from -1 to 1.
    """
    return (exp(size) - 1) * min(max(surface.depth - 2, 0.0), 1.0)


def swollen(surface: Surface, share: float, reach: float, device: torch.device) -> Tensor:
    """Velocity (2, height, width) that moves a surface along its normal, further where the structure is wider.

    Args:
        surface: Of a structure; nearly all of its half-width gives way evenly.
        share: Of its half-width, outwards if positive.
        reach: How far beyond the surface, before and after, the surroundings give way, in half-widths.
        device: Where to compute it.
    """
    distance, normal, width = _planes(device, surface.distance, surface.normal, surface.half_width)
    inner = ((distance + GIVES * width) / ((min(share, 0.0) + GIVES) * width)).clamp(0, 1)
    around = (reach * width).clamp_min(LEAST_REACH)
    outer = smooth_step((max(share, 0.0) * width + around - distance) / around)
    return normal * (inner * outer * width * share)


def shifted(surface: Surface, shift: Tensor, swept: float, reach: float, device: torch.device) -> Tensor:
    """Velocity (2, height, width) that moves a structure as it is.

    Args:
        surface: Of the structure.
        shift: (2,) pixels in x and in y.
        swept: Pixels beyond the surface that the structure may get to.
        reach: Pixels beyond those within which the surroundings give way.
        device: Where to compute it.
    """
    (distance,) = _planes(device, surface.distance)
    return shift.to(device)[:, None, None] * smooth_step((swept + reach - distance) / reach)


def thickened(wall: Wall, factor: float, device: torch.device) -> Tensor:
    """Velocity (2, height, width) that moves the inner surface of a wall; the outer one stays exactly.

    Args:
        wall: Its thickness nearby says how far: a wall is thickened or thinned in proportion all around.
        factor: Logarithm of the factor on the thickness, from -1 to 1.
        device: Where to compute it.
    """
    cavity = wall.cavity
    distance, normal, width = _planes(device, cavity.distance, cavity.normal, cavity.half_width)
    room, thickness = _planes(device, wall.room, wall.thickness)
    deep = GIVES * width
    offset = torch.maximum(-swelling(cavity, factor) * thickness, -FURTHEST * deep)
    # Where the wall ends differs from place to place.
    end = GIVES * (distance.clamp_min(0) + room.clamp_min(0))
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


def _planes(device: torch.device, *planes: Tensor) -> list[Tensor]:
    return [plane.to(device).float() for plane in planes]
