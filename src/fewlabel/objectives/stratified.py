"""Draws with less variance: naive (NS), stratified (SG) and stratified-antithetic (SAG) sampling (ARCO, 2302.01735).

A group P (the pixels of one class) is split into disjoint strata P_m with weights w_m = |P_m| / |P|. Of n draws

* ``ns`` takes all at random from P, each by itself;
* ``sg`` takes n_m from P_m, with E n_m = n w_m, Σ n_m = n and |n_m - n w_m| < 1;
* ``sag`` does so too, but in pairs: a random place and its reflection, with one free draw where n_m is odd.

The plain mean over the draws is unbiased under each. With μ_m and σ²_m the mean and variance of h in P_m, ρ_m the
correlation between a place and its reflection, and n w_m whole numbers (all draws are with replacement)::

    Var_NS - Var_SG = 1/n Σ w_m (μ_m - μ)²,   Var_SG = 1/n Σ w_m σ²_m,   Var_SAG = 1/n Σ w_m σ²_m (1 + ρ_m) ≤ 2 Var_SG.

What differs from the paper: it prints the gap without w_m, and the mean of the strata's means, which is biased unless
all have one size. From the public code: its grid lies over the list of a class's pixels, reshaped to a square, with
equal counts, and the last ones of a list whose length is no square are hardly ever drawn.

* Strata of pixels are the cells of a grid over the image, met with the image and the class.
* Counts are rounded by systematic sampling over strata in random order: exactly unbiased, and two strata in turn
  (left wall, right wall, left wall ...) cannot fall in step with the rounding.
* A place is reflected by its rank in raster order, r → |P_m| - 1 - r: a bijection of any stratum, and the point
  reflection where the cell is full.

All is done at once, in whole numbers, and the amount of random numbers depends on shapes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

Sampling = Literal["ns", "sg", "sag"]

#: Random numbers are whole, below 2 to this power: a place of a stratum of up to 2^32 pixels fits an int64 product.
_BITS = 31


@dataclass(frozen=True)
class Strata:
    """The pixels of each class, stratum by stratum.

    Attributes:
        order: (pixels,) int64 flat pixels, sorted by class, stratum and raster order; those without a class last.
        sizes: (classes, strata) int64, |P_m|.
        starts: (classes, strata) int64, where each stratum begins in ``order``.
    """

    order: Tensor
    sizes: Tensor
    starts: Tensor

    @property
    def totals(self) -> Tensor:
        """(classes,) int64, |P|."""
        return self.sizes.sum(dim=1)


def grid_cells(space: Sequence[int], grid: int, device: torch.device | str = "cpu") -> Tensor:
    """The cell of a grid over an image in which each pixel lies.

    Args:
        space: Size of the image, any number of axes.
        grid: G, cells along each axis. Where G does not divide a side, its cells differ by one pixel.
        device: Device of the result.

    Returns:
        (*space) int64 in [0, G^axes).

    Raises:
        ValueError: If the grid is below 1.
    """
    if grid < 1:
        raise ValueError(f"a grid has 1 cell or more along an axis, not {grid}")
    cells = torch.zeros((), dtype=torch.int64, device=device)
    for length in space:
        cells = cells[..., None] * grid + torch.arange(length, device=device) * grid // length
    return cells


def pixel_strata(labels: Tensor, classes: int, grid: int | None) -> Strata:
    """Sort the pixels of a batch by class and stratum, (image, cell of a G x G grid).

    Args:
        labels: (images, *space) int64; a pixel whose label is not in [0, classes) takes no part.
        classes: Number of classes, the groups.
        grid: G; None for one stratum per class, all that ``ns`` needs.
    """
    count = 1 if grid is None else len(labels) * grid ** (labels.dim() - 1)
    last = classes * count
    known = (labels >= 0) & (labels < classes)
    # Half the bytes of int64, and that is most of the cost.
    key = labels.to(torch.int32)
    if grid is not None:
        key = torch.add(_strata_of(tuple(labels.shape), grid, labels.device), key, alpha=count)
    key = torch.where(known, key, last).flatten()
    sizes = torch.bincount(key, minlength=last + 1)[:-1]
    starts = sizes.cumsum(dim=0) - sizes
    return Strata(_stable_order(key, last), sizes.view(classes, count), starts.view(classes, count))


@lru_cache(maxsize=8)
def _strata_of(shape: tuple[int, ...], grid: int, device: torch.device) -> Tensor:
    """Number of the stratum, image and cell, of each pixel of (images, *space): int32; the same every step."""
    cells: int = grid ** len(shape[1:])
    image = torch.arange(shape[0], device=device).view(-1, *[1] * len(shape[1:])) * cells
    return (image + grid_cells(shape[1:], grid, device)).to(torch.int32)


def _stable_order(key: Tensor, largest: int) -> Tensor:
    """Places of the keys (p,) in ascending order, equal ones as they stand."""
    if key.device.type != "cpu":
        return key.argsort(stable=True)
    # NumPy sorts 16 bits by counting digits, in time linear in the pixels and ten times faster than torch does.
    kind = np.uint8 if largest < 2**8 else np.uint16 if largest < 2**16 else np.int32
    order: NDArray[np.int64] = key.numpy().astype(kind).argsort(kind="stable")
    return torch.from_numpy(order)


def draw_places(
    sizes: Tensor, count: int, sampling: Sampling, generator: Generator, mass: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw from every group: which stratum, and which place in it.

    Tables of strata are small: on the CPU a whole draw costs less than the start of a few kernels.

    Args:
        sizes: (groups, strata) int64, |P_m|; may be 0.
        count: n, draws from each group.
        sampling: ``ns``, ``sg`` or ``sag``; the draws of a stratum follow each other under the last two.
        generator: CPU generator.
        mass: (groups, strata) int64 below 2^31 in sum, in whose proportion strata are drawn; 0 where a stratum is
            empty. By default their sizes, so that every place is as likely.

    Returns:
        Two (groups, count) int64: strata and places in them, from 0. Without meaning for a group without mass.
    """
    groups, strata = sizes.shape
    table = sizes.cpu().numpy()
    weight = table if mass is None else mass.cpu().numpy()
    numbers = torch.randint(2**_BITS, (2, groups, count + 1), generator=generator).numpy()
    row = np.arange(groups)[:, None]
    turn = np.arange(count)
    parity = turn
    if strata == 1:
        chosen = np.zeros((groups, count), dtype=np.int64)
    elif sampling == "ns":
        ends = weight.cumsum(axis=1)
        chosen = _slots(ends, numbers[0, :, :count] * ends[:, -1:] >> _BITS)
    else:
        order = torch.rand(groups, strata, generator=generator).numpy().argsort(axis=1)
        covered = weight[row, order].cumsum(axis=1)
        total = covered[:, -1:]
        # floor((n C_m + r) / N) with r even in 0 ... N - 1: n_m is the number of whole steps within stratum m.
        ends = (count * covered + (numbers[0, :, count:] * total >> _BITS)) // np.maximum(total, 1)
        slots = _slots(ends, np.broadcast_to(turn, (groups, count)))
        chosen = order[row, slots]
        if sampling == "sag":
            parity = turn - np.where(slots > 0, ends[row, slots - 1], 0)
    size = table[row, chosen]
    places = numbers[1, :, :count] * size >> _BITS
    if sampling == "sag":
        places = np.where(parity % 2 == 1, size - 1 - np.roll(places, 1, axis=1), places)
    return torch.from_numpy(chosen), torch.from_numpy(places)


def _slots(ends: NDArray[np.int64], values: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first place of each row of ``ends`` (g, s), ascending, that is above each value (g, n) of the row."""
    # Rows follow each other on one line, each in a band of its own.
    band = np.arange(len(ends))[:, None] << 32
    found = np.searchsorted((ends + band).ravel(), (values + band).ravel(), side="right").reshape(values.shape)
    slots: NDArray[np.int64] = np.minimum(found - np.arange(len(ends))[:, None] * ends.shape[1], ends.shape[1] - 1)
    return slots


def draw_pixels(strata: Strata, count: int, sampling: Sampling, generator: Generator, repeats: int = 1) -> Tensor:
    """Draw ``count`` pixels of each class, with replacement.

    Args:
        strata: Of :func:`pixel_strata`.
        count: n.
        sampling: ``ns``, ``sg`` or ``sag``.
        generator: CPU generator.
        repeats: Number of draws of n pixels that know nothing of each other.

    Returns:
        (repeats, classes, count) int64 flat pixels; without meaning for a class without pixels.
    """
    classes, cells = strata.sizes.shape
    chosen, places = draw_places(strata.sizes.repeat(repeats, 1), count, sampling, generator)
    chosen += torch.arange(classes).repeat(repeats)[:, None] * cells
    found = strata.starts.take(chosen.to(strata.order.device)).add_(places.to(strata.order.device))
    # A class without pixels may begin beyond the end.
    return strata.order.take(found.clamp_(0, len(strata.order) - 1)).view(repeats, classes, count)
