"""Surfaces of the structures of a slice, measured once: signed distances, directions, and the walls about cavities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

#: Logarithms of size for which offsets are tabulated.
SIZES = np.linspace(-1.0, 1.0, 33)
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
        depth: Largest distance inside, in pixels.
        radius: Of the disc of the same area, in pixels.
        offsets: For each of :data:`SIZES` how far the surface moves to have exp(2 · size) times its area.
    """

    distance: Tensor
    normal: Tensor
    depth: float
    radius: float
    offsets: tuple[float, ...]


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
    depth, area = float(-raw.min()), int(mask.sum())
    distance = ndimage.gaussian_filter(raw, 1.0, mode="nearest")
    # Directions are those of a rounder body: the deeper it is the rounder, so that its middle is no ridge.
    rounder = ndimage.gaussian_filter(raw, float(np.clip(depth / 4, 1.0, 4.0)), mode="nearest")
    down, across = np.gradient(rounder)
    length = np.maximum(np.hypot(across, down), _CLEAR)
    # The pixels nearest to the middle of the structure are those that a surface of a given area encloses.
    places = np.arange(distance.size) + 0.5
    offsets = np.interp(np.exp(2 * SIZES) * area, places, np.sort(distance, axis=None))
    return Surface(
        distance=_half(distance),
        normal=_half(np.stack([across / length, down / length])),
        depth=depth,
        radius=float(np.sqrt(area / np.pi)),
        offsets=tuple(float(offset) for offset in offsets),
    )


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
    across = np.maximum(inner.distance.float().numpy(), 0) + np.maximum(room, 0)
    # Inside the cavity the wall is as thick as at its nearest point.
    nearest = ndimage.distance_transform_edt(cavity, return_distances=False, return_indices=True)
    thickness = ndimage.gaussian_filter(across[tuple(nearest)], 4.0, mode="nearest")
    return Wall(label, level, inner, _half(room), _half(thickness))


def _half(plane: NDArray[np.floating]) -> Tensor:
    """Half precision holds distances near a surface to a hundredth of a pixel."""
    return torch.from_numpy(plane.astype(np.float16))
