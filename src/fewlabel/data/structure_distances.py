"""Surfaces of the structures of a slice, measured once: signed distances, directions, and the walls about cavities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

#: Factor from one half-width to the next that are told apart.
_FINER = 1.2
#: How much further than its radius a disc counts for, so that a corner is no narrower than what it is the corner of.
_CORNERS = 1.35
#: Below this length of its smoothed gradient, a distance has no clear direction: the middle of a structure.
_CLEAR = 0.6

Mask = NDArray[np.bool_]
Plane = NDArray[np.float32]


@dataclass(frozen=True)
class Surface:
    """The surface of a structure in a slice.

    Attributes:
        distance: (height, width) float16, signed distance in pixels, negative inside, 0 midway between pixels.
        normal: (2, height, width) float16, x and y of the direction in which it grows; of length 1 near the surface,
            and towards 0 where no side of the structure is the nearest.
        half_width: (height, width) float16, pixels, of the structure where it is nearest: the radius of a disc, half
            the width of a tube. At a place it is the radius of the largest disc within the structure that covers it.
        depth: Largest distance inside, in pixels.
    """

    distance: Tensor
    normal: Tensor
    half_width: Tensor
    depth: float


@dataclass(frozen=True)
class Body:
    """A structure of a slice: its outermost class, its number in the volume from 0 for the largest, its surface."""

    root: int
    number: int
    surface: Surface


@dataclass(frozen=True)
class Wall:
    """A wall about a cavity in a slice.

    Attributes:
        label: Class of the cavity.
        level: How many classes lie about it.
        cavity: The inner surface.
        room: (height, width) float16, distance to where the wall ends, positive within wall and cavity only.
        thickness: (height, width) float16, of the wall nearby, in pixels.
    """

    label: int
    level: int
    cavity: Surface
    room: Tensor
    thickness: Tensor


def signed_distance(mask: Mask) -> Plane:
    """Distance to the border of a mask in pixels, negative inside; the border is midway between pixels.

    Args:
        mask: (height, width), neither empty nor full.
    """
    inside, outside = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return np.where(mask, 0.5 - inside, outside - 0.5).astype(np.float32)


def surface_of(mask: Mask) -> Surface | None:
    """The surface of a mask (height, width), or None where it is empty or full."""
    if not mask.any() or mask.all():
        return None
    raw = signed_distance(mask)
    depth = float(-raw.min())
    distance = ndimage.gaussian_filter(raw, 1.0, mode="nearest")
    # Directions are those of a rounder body: the deeper it is the rounder, so that its middle is no ridge.
    rounder = ndimage.gaussian_filter(raw, float(np.clip(depth / 4, 1.0, 4.0)), mode="nearest")
    down, across = np.gradient(rounder)
    length = np.maximum(np.hypot(across, down), _CLEAR)
    normal = np.stack([across / length, down / length])
    # Pixels have a width too: the middle ones of 8 lie 4 from the nearest outside, and half of 8 is 4.
    width = _half_width(mask, raw - 0.5, depth + 0.5)
    return Surface(_half(distance), _half(normal), _half(width), depth)


def _half_width(mask: Mask, distance: Plane, depth: float) -> Plane:
    """Local half-width of a structure (Hildebrand & Rüegsegger, J. Microscopy 1997), smooth, and carried outwards."""
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    own = np.where(mask, 0.5, 0.0).astype(np.float32)
    inside, cropped = own[box], distance[box]
    steps = int(np.log(max(depth, 1.0)) / np.log(_FINER))
    for radius in depth / _FINER ** np.arange(steps, -1, -1):
        # Discs of this radius in the structure cover what is as near as that to their centres, and corners beside them.
        covered = ndimage.distance_transform_edt(cropped > -radius) <= _CORNERS * radius
        inside[covered & mask[box]] = radius
    nearest = ndimage.distance_transform_edt(~mask, return_distances=False, return_indices=True)
    smooth: Plane = ndimage.gaussian_filter(own[tuple(nearest)], float(np.clip(depth / 3, 2.0, 8.0)), mode="nearest")
    return smooth


def wall_of(label: int, level: int, cavity: Mask, whole: Mask) -> Wall | None:
    """The wall between a cavity and the end of the wall's own class, or None where either is missing.

    Args:
        label: Class of the cavity.
        level: How many classes lie about it.
        cavity: (height, width) the class and all that lies in it.
        whole: The cavity and the pixels of the wall's class.
    """
    if not (whole & ~cavity).any() or whole.all() or (inner := surface_of(cavity)) is None:
        return None
    room = ndimage.gaussian_filter(-signed_distance(whole), 1.0, mode="nearest")
    room = np.where(whole, room, np.minimum(room, 0))
    thickness = np.maximum(inner.distance.float().numpy(), 0) + np.maximum(room, 0)
    # Elsewhere the wall is as thick as at its nearest point; where a cavity is open there is none.
    for other in (cavity, ~whole):
        nearest = ndimage.distance_transform_edt(other, return_distances=False, return_indices=True)
        thickness = thickness[tuple(nearest)]
    return Wall(label, level, inner, _half(room), _half(ndimage.gaussian_filter(thickness, 4.0, mode="nearest")))


def _half(plane: NDArray[np.floating]) -> Tensor:
    """Half precision holds distances near a surface to a hundredth of a pixel."""
    return torch.from_numpy(plane.astype(np.float16))
