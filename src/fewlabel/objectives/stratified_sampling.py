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

* Strata of pixels are the cells of a grid over each image, met with the class.
* Counts are rounded by systematic sampling over strata in random order: exactly unbiased, and strata in turn (left
  wall, right wall, left wall ...) cannot fall in step with the rounding.
* A place is reflected by its rank in raster order, r → |P_m| - 1 - r: a bijection of any stratum, and the point
  reflection where the cell is full.

All strata are done at once, in whole numbers, on the CPU. How many random numbers that takes depends on shapes alone.
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

#: Random numbers are whole, below 2 to this power: times the size of a stratum they fit an int64.
_BITS = 31


@dataclass(frozen=True)
class Strata:
    """The pixels of each class, stratum by stratum; on the CPU.

    Attributes:
        sizes: (classes, strata) int64, |P_m|.
        starts: (classes, strata) int64, where each stratum begins in ``order``.
        order: (pixels,) int64, sorted by class, stratum and raster order; those without a class last.
        cells: (pixels,) int64, which flat pixel an entry of ``order`` means; None where they are flat pixels.
    """

    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    order: NDArray[np.int64]
    cells: NDArray[np.int64] | None

    @property
    def totals(self) -> Tensor:
        """(classes,) int64, |P|."""
        return torch.from_numpy(self.sizes.sum(axis=1))

    def pixels(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The flat pixels of the batch at places of ``order``."""
        # A class without pixels may begin beyond the end.
        ranks: NDArray[np.int64] = self.order.take(places, mode="clip")
        return ranks if self.cells is None else self.cells.take(ranks)


def grid_cells(space: Sequence[int], grid: int) -> Tensor:
    """The cell of a grid over an image in which each pixel lies.

    Args:
        space: Size of the image, any number of axes.
        grid: G, cells along each axis. Where G does not divide a side, its cells differ by one pixel.

    Returns:
        (*space) int64 in [0, G^axes).

    Raises:
        ValueError: If G is below 1.
    """
    if grid < 1:
        raise ValueError(f"a grid has 1 cell or more along an axis, not {grid}")
    cells = torch.zeros((), dtype=torch.int64)
    for length in space:
        cells = cells[..., None] * grid + torch.arange(length) * grid // length
    return cells


def pixel_strata(labels: Tensor, classes: int, grid: int | None) -> Strata:
    """Sort the pixels of a batch by class and stratum, (image, cell of a G x G grid).

    Args:
        labels: (images, *space) int64 from -1 to 255; pixels whose label is not in [0, classes) are ignored.
        classes: Number of classes, the groups; at most 255.
        grid: G; None for one stratum per class, all that ``ns`` needs.

    Raises:
        ValueError: If there are more than 255 classes.
    """
    if classes > 255:
        raise ValueError(f"at most 255 classes can be drawn from, not {classes}")
    # Bytes are sorted by counting, in time linear in the pixels; -1 becomes 255.
    codes = labels.to(torch.uint8).flatten().cpu().numpy()
    counts = np.array([np.count_nonzero(codes == label) for label in range(classes)])
    ends = counts.cumsum()
    if grid is None:
        return Strata(counts[:, None], (ends - counts)[:, None], codes.argsort(kind="stable"), None)
    # Cell by cell, the strata of a class follow each other once classes are sorted.
    cells, marks = _cell_order(tuple(labels.shape), grid)
    order: NDArray[np.int64] = codes.take(cells).argsort(kind="stable")
    starts = np.empty((classes, len(marks) + 1), dtype=np.int64)
    starts[:, -1] = ends
    for label, (first, last) in enumerate(zip((ends - counts).tolist(), ends.tolist(), strict=True)):
        starts[label, :-1] = order[first:last].searchsorted(marks) + first
    return Strata(starts[:, 1:] - starts[:, :-1], starts[:, :-1], order, cells)


@lru_cache(maxsize=8)
def _cell_order(shape: tuple[int, ...], grid: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Flat pixels of (images, *space) image by image and cell by cell, and where each cell begins; kept for reuse."""
    cells = grid_cells(shape[1:], grid).flatten().numpy()
    order = cells.argsort(kind="stable")
    image = np.arange(shape[0])[:, None] * len(cells)
    marks = np.searchsorted(cells[order], np.arange(grid ** len(shape[1:])))
    return (image + order).ravel(), (image + marks).ravel()


def draw_places(
    sizes: Tensor, count: int, sampling: Sampling, generator: Generator, mass: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Draw from every group: which stratum, and which place in it.

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
    more = 0 if strata == 1 else count if sampling == "ns" else 1
    numbers = torch.randint(2**_BITS, (groups, count + more), generator=generator).numpy()
    first, turn = np.zeros(1, dtype=np.int64), np.arange(count)
    if strata == 1:
        drawn_strata = np.zeros((groups, count), dtype=np.int64)
    elif sampling == "ns":
        ends = weight.cumsum(axis=1)
        target = numbers[:, count:] * ends[:, -1:] >> _BITS
        drawn_strata = np.stack([np.searchsorted(*pair, side="right") for pair in zip(ends, target, strict=True)])
        drawn_strata = drawn_strata.clip(max=strata - 1)
    else:
        # One order serves all groups: whatever it is, counts are right on average, so groups stay uncorrelated.
        order = torch.randperm(strata, generator=generator).numpy()
        covered = weight.take(order, axis=1).cumsum(axis=1)
        total = covered[:, -1:]
        # floor((n C_m + r) / N) with r even in 0 ... N - 1: n_m is the number of whole steps within stratum m.
        ends = (count * covered + (numbers[:, count:] * total >> _BITS)) // np.maximum(total, 1)
        drawn = ends.copy()
        drawn[:, 1:] -= ends[:, :-1]
        # A group without mass has to have its places filled too.
        drawn[:, 0] += count - ends[:, -1]
        drawn_strata = np.tile(order, groups).repeat(drawn.ravel()).reshape(groups, count)
        if sampling == "sag":
            first = (ends - drawn).ravel().repeat(drawn.ravel()).reshape(groups, count)
    size = table.take(drawn_strata + np.arange(groups)[:, None] * strata)
    places = numbers[:, :count] * size >> _BITS
    if sampling == "sag":
        np.copyto(places[:, 1:], size[:, 1:] - 1 - places[:, :-1], where=((turn - first) & 1).astype(bool)[..., 1:])
    return torch.from_numpy(drawn_strata), torch.from_numpy(places)


def draw_pixels(strata: Strata, count: int, sampling: Sampling, generator: Generator, repeats: int = 1) -> Tensor:
    """Draw ``count`` pixels of each class, with replacement.

    Args:
        strata: Of :func:`pixel_strata`.
        count: n.
        sampling: ``ns``, ``sg`` or ``sag``.
        generator: CPU generator.
        repeats: Number of draws of n pixels that know nothing of each other.

    Returns:
        (repeats, classes, count) int64 flat pixels, on the CPU; without meaning for a class without pixels.
    """
    classes, columns = strata.sizes.shape
    sizes = torch.from_numpy(strata.sizes).repeat(repeats, 1)
    drawn_strata, places = (part.numpy() for part in draw_places(sizes, count, sampling, generator))
    ranks = strata.starts.take(drawn_strata + np.arange(len(sizes))[:, None] % classes * columns) + places
    return torch.from_numpy(strata.pixels(ranks)).view(repeats, classes, count)
