"""Where in its volume a 3D patch lies: volumes as whole scans or runs of slices, and windows drawn from them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.store import PreparedStore

#: Size of a patch in voxels (depth, height, width).
Patch = tuple[int, int, int]
#: Share of labelled patches about a labelled voxel of a class (nnU-Net, Isensee et al., Nature Methods 2021).
FOREGROUND = 1 / 3


@dataclass(frozen=True)
class Run:
    """A volume: store slices ``start`` to ``stop``.

    Attributes:
        start: First store index.
        stop: Store index after the last.
        voxels: (slices, foreground classes) labelled voxels, where counted.
        drawn: (slices,) which of them windows are drawn about; None for all. Masks of others are not read.
    """

    start: int
    stop: int
    voxels: NDArray[np.int64] | None = None
    drawn: NDArray[np.bool_] | None = None

    @property
    def depth(self) -> int:
        """Slices of the volume."""
        return self.stop - self.start

    @property
    def indices(self) -> NDArray[np.int64]:
        """Store indices of the slices that windows are drawn about."""
        every = np.arange(self.start, self.stop)
        return every if self.drawn is None else every[self.drawn]


@dataclass(frozen=True)
class Window:
    """Where a patch lies.

    Attributes:
        slices: (depth,) store indices; where the volume ends, its nearest slice again.
        inside: (depth,) whether the slice is one of the volume.
        centre: (row, column) of the voxel it is about, in the stored slice; None for anywhere.
        level: Which of its slices that voxel lies in.
        place: Two numbers in [0, 1) that say where in the plane a patch lies that may lie anywhere.
    """

    slices: NDArray[np.int64]
    inside: NDArray[np.bool_]
    centre: tuple[int, int] | None
    place: tuple[float, float]
    level: int = 0


def runs_of(store: PreparedStore, indices: NDArray[np.int64]) -> list[Run]:
    """Runs of consecutive slices of one case, in store order.

    Args:
        store: Prepared store.
        indices: Store indices, ascending and each once.
    """
    if not len(indices):
        return []
    cases = store.slices["case"].to_numpy()[indices]
    ends = np.flatnonzero((np.diff(indices) != 1) | (cases[1:] != cases[:-1])) + 1
    return [Run(int(part[0]), int(part[-1]) + 1) for part in np.split(indices, ends)]


def volumes_of(store: PreparedStore, indices: NDArray[np.int64]) -> list[Run]:
    """The whole scans that these slices are of, in store order, each with which of its slices they are.

    Args:
        store: Prepared store.
        indices: Store indices, in any order.
    """
    cases = store.slices["case"].to_numpy()
    edges = np.concatenate([[0], np.flatnonzero(cases[1:] != cases[:-1]) + 1, [len(cases)]])
    volumes = []
    for place in np.unique(np.searchsorted(edges, indices, side="right") - 1):
        start, stop = int(edges[place]), int(edges[place + 1])
        drawn = np.isin(np.arange(start, stop), indices)
        volumes.append(Run(start, stop, drawn=None if drawn.all() else drawn))
    return volumes


def counted(store: PreparedStore, run: Run) -> Run:
    """The run with its labelled voxels of each foreground class in each slice; one slice is read at a time.

    Slices that no window is drawn about have none: their masks are not read.
    """
    classes = len(store.label_names)
    voxels = np.zeros((run.depth, classes - 1), np.int64)
    for z in run.indices:
        voxels[z - run.start] = np.bincount(store.labels[z].ravel(), minlength=256)[1:classes]
    return replace(run, voxels=voxels)


def draw_window(
    store: PreparedStore, run: Run, depth: int, generator: np.random.Generator, *, foreground: bool
) -> Window:
    """A window of a volume.

    Args:
        store: Where masks are read.
        run: The volume, counted if ``foreground``.
        depth: Slices of the window.
        generator: Says where.
        foreground: Centre it, as far as the volume reaches, on a random labelled voxel of a random class that the
            volume holds; without any, and otherwise, every place is as likely that shows a slice to be drawn about.
    """
    u, v, w = (float(number) for number in generator.random(3))
    voxel = _voxel(store, run, generator) if foreground else None
    first = _first_slice(run, depth, w) if voxel is None else first_voxel(run.depth, depth, w, voxel[0])
    places = np.arange(first, first + depth)
    inside = (places >= 0) & (places < run.depth)
    slices = run.start + np.clip(places, 0, run.depth - 1)
    if voxel is None:
        return Window(slices, inside, None, (u, v))
    return Window(slices, inside, voxel[1:], (u, v), voxel[0] - first)


def first_voxel(side: int, wanted: int, u: float, centre: int | None) -> int:
    """First voxel of a window along one axis; negative, with the axis in the middle, where it is too short.

    Args:
        side: Voxels of the volume.
        wanted: Voxels of the window.
        u: Number in [0, 1) that chooses among all places.
        centre: Voxel to have in the middle, as far as the volume reaches; None for any place.
    """
    if side <= wanted:
        return -((wanted - side) // 2)
    if centre is None:
        return int(u * (side - wanted + 1))
    return min(max(centre - wanted // 2, 0), side - wanted)


def _first_slice(run: Run, depth: int, u: float) -> int:
    """First slice of a window of which one slice at least is to be drawn about; ``u`` as in :func:`first_voxel`."""
    if run.drawn is None or run.depth <= depth:
        return first_voxel(run.depth, depth, u, None)
    before = np.concatenate([[0], np.cumsum(run.drawn)])
    places = np.flatnonzero(before[depth:] > before[:-depth])
    return int(places[int(u * len(places))])


def _voxel(store: PreparedStore, run: Run, generator: np.random.Generator) -> tuple[int, int, int] | None:
    """A labelled voxel (slice, row, column): every class is as likely, and so is every voxel of it."""
    if run.voxels is None or not run.voxels.any():
        return None
    index = int(generator.choice(np.flatnonzero(run.voxels.any(axis=0))))
    share = run.voxels[:, index] / run.voxels[:, index].sum()
    z = int(generator.choice(run.depth, p=share))
    rows, columns = np.nonzero(store.labels[run.start + z] == index + 1)
    pick = int(generator.integers(len(rows)))
    return z, int(rows[pick]), int(columns[pick])
