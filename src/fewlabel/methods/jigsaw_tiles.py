"""Tiles of a puzzle: where they lie, how they are cut and evened out, and the set of permutations to tell apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor
from torch.nn import functional

#: Tiles along each side, and in all.
SIDE = 3
TILES = SIDE * SIDE
#: Added to the variance of a tile: one whose deviation is below 1 % of its slice's stays flat instead of showing noise.
_EPS = 1e-4


@dataclass(frozen=True)
class TileGrid:
    """Three by three cells of an image, and a tile within each; lengths are (vertical, horizontal) in pixels.

    A tile is cut at a random place of its cell, so that between two tiles at least ``gap`` pixels are lost and their
    borders cannot be continued from one to the next. Its sides are the largest multiples of the encoder's stride that
    fit, so nothing is resampled; where a cell is too small for one stride, all that fits is cut and enlarged to it.

    Attributes:
        origin: Of the first cell; what 3 does not divide is left at the image's border.
        cell: Side of a cell.
        gap: Smallest distance of two tiles.
        cut: Side of a tile in the image.
        out: Side of a tile as the encoder sees it, a multiple of the stride.
    """

    origin: tuple[int, int]
    cell: tuple[int, int]
    gap: tuple[int, int]
    cut: tuple[int, int]
    out: tuple[int, int]

    @classmethod
    def fit(cls, size: tuple[int, int], stride: int, share: float) -> TileGrid:
        """The grid of an image.

        Args:
            size: (height, width).
            stride: Of the encoder.
            share: Gap as a share of a cell, in [0, 1); rounded up.

        Raises:
            ValueError: If a tile would have to be more than doubled to fill one stride.
        """
        cell = tuple(side // SIDE for side in size)
        gap = tuple(math.ceil(round(share * side, 6)) for side in cell)
        room = tuple(side - lost for side, lost in zip(cell, gap, strict=True))
        if 2 * min(room) < stride:
            raise ValueError(f"tiles of {room[0]}x{room[1]} pixels are less than half of the encoder's stride {stride}")
        cut = tuple(side // stride * stride or side for side in room)
        out = tuple(max(side, stride) for side in cut)
        origin = tuple((side - SIDE * part) // 2 for side, part in zip(size, cell, strict=True))
        return cls(_pair(origin), _pair(cell), _pair(gap), _pair(cut), _pair(out))

    def corners(self, count: int, generator: Generator) -> Tensor:
        """Random places of the tiles of ``count`` images.

        Returns:
            (count, 9, 2) int64, row and column of the upper left pixel, tiles in reading order.
        """
        origin, cell, gap, cut = (torch.tensor(pair) for pair in (self.origin, self.cell, self.gap, self.cut))
        index = torch.arange(TILES)
        cells = torch.stack([index // SIDE, index % SIDE], dim=1)
        slack = cell - gap - cut
        moved = (torch.rand(count, TILES, 2, generator=generator) * (slack + 1)).long()
        return origin + cells * cell + gap // 2 + moved

    def cut_tiles(self, images: Tensor, corners: Tensor) -> Tensor:
        """Cut tiles out, and give each zero mean and unit variance, or its mean and contrast would tell its place.

        Args:
            images: (n, channels, height, width).
            corners: (n, 9, 2) from :meth:`corners`.

        Returns:
            (n, 9, channels, *out).
        """
        corners = corners.to(images.device)
        rows = corners[:, :, 0, None] + torch.arange(self.cut[0], device=images.device)
        columns = corners[:, :, 1, None] + torch.arange(self.cut[1], device=images.device)
        image = torch.arange(len(images), device=images.device)[:, None, None, None]
        tiles = images[image, :, rows[:, :, :, None], columns[:, :, None, :]].flatten(0, 1).permute(0, 3, 1, 2)
        if self.out != self.cut:
            tiles = functional.interpolate(tiles, size=self.out, mode="bilinear", align_corners=False)
        even = functional.layer_norm(tiles, self.out, eps=_EPS)
        return even.view(len(images), TILES, *even.shape[1:])


def _pair(values: tuple[int, ...]) -> tuple[int, int]:
    return values[0], values[1]


def shuffled(tiles: Tensor, orders: Tensor) -> Tensor:
    """Tiles (n, 9, ...) in a new order (n, 9) int64: place j of the result holds tile ``orders[:, j]``."""
    orders = orders.to(tiles.device)
    return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], orders]


def random_orders(count: int, generator: Generator) -> Tensor:
    """(count, 9) int64 permutations, each of the 9! equally likely."""
    return torch.rand(count, TILES, generator=generator, dtype=torch.float64).argsort(dim=1)


@lru_cache(maxsize=4)
def permutation_set(count: int) -> NDArray[np.int64]:
    """Permutations of nine tiles that are far from each other: greedy by Hamming distance (Noroozi & Favaro, Alg. 1).

    The next one is always that of the largest summed distance to those chosen; of several, the one whose nearest chosen
    is farthest, then the first in lexicographic order. The paper begins with a random permutation; this begins with the
    identity, so that the set is the same always.

    Args:
        count: How many, from 1 to 9!.

    Returns:
        (count, 9) read-only, pairwise distinct.

    Raises:
        ValueError: If there are not so many.
    """
    every = _every_permutation()
    if not 1 <= count <= every.shape[1]:
        raise ValueError(f"there are 1 to {every.shape[1]} permutations of {TILES} tiles, not {count}")
    total = np.zeros(every.shape[1], dtype=np.int32)
    nearest = np.full(every.shape[1], TILES, dtype=np.uint8)
    picked = [0]
    while len(picked) < count:
        distance = np.zeros(every.shape[1], dtype=np.uint8)
        for place in every:
            distance += place != place[picked[-1]]
        total += distance
        np.minimum(nearest, distance, out=nearest)
        # A permutation that is picked has the nearest distance 0, and its sum is never raised by itself.
        score = np.where(nearest > 0, total * (TILES + 1) + nearest, -1)
        picked.append(int(score.argmax()))
    rows = every[:, picked].T.astype(np.int64)
    rows.flags.writeable = False
    return rows


def _every_permutation() -> NDArray[np.uint8]:
    """(9, 9!) all permutations as columns, in lexicographic order."""
    permutations = np.zeros((1, 0), dtype=np.uint8)
    for length in range(1, TILES + 1):
        first = np.repeat(np.arange(length, dtype=np.uint8), len(permutations))[:, None]
        rest = np.tile(permutations, (length, 1))
        permutations = np.concatenate([first, rest + (rest >= first)], axis=1)
    return np.ascontiguousarray(permutations.T)
