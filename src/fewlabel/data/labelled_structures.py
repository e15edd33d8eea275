"""The structures of all labelled slices: found once, measured when first needed, kept within a bound of memory."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.anatomy_warps import SliceAnatomy
from fewlabel.data.nested_structures import find_bodies, find_nesting
from fewlabel.data.patch_positions import runs_of
from fewlabel.data.store import PreparedStore
from fewlabel.data.structure_distances import Body, Wall, surface_of, wall_of

#: Bytes of measured surfaces that are kept.
KEPT = 512 * 1024**2


class AnatomyIndex:
    """Structures of labelled slices.

    Nesting is that of all of them; bodies are connected through the slices of a volume, so that a structure is the same
    in each. Beside the surfaces kept, memory is a byte for each pixel of the slices. The least recently used surfaces
    go first, and are measured again when needed.

    Args:
        store: Prepared store.
        indices: Store indices of labelled slices, ascending and each once; no other mask is read.
        kept: Bytes of surfaces to keep.
    """

    def __init__(self, store: PreparedStore, indices: NDArray[np.int64], kept: int = KEPT) -> None:
        self.store = store
        self.indices = indices
        self.kept = kept
        self.nesting = find_nesting((store.labels[index] for index in indices), len(store.label_names))
        self._numbers = np.zeros((len(indices), *store.labels.shape[1:]), np.uint8)
        self._roots: dict[int, list[int]] = {}
        for run in runs_of(store, indices):
            places = slice(*np.searchsorted(indices, [run.start, run.stop]))
            numbers, roots = find_bodies(store.labels[run.start : run.stop], self.nesting)
            self._numbers[places] = numbers
            self._roots.update(dict.fromkeys(range(run.start, run.stop), roots))
        self._measured: OrderedDict[int, tuple[SliceAnatomy, int]] = OrderedDict()
        self._bytes = 0

    def __getitem__(self, index: int) -> SliceAnatomy:
        """The structures of the slice with a store index."""
        if index in self._measured:
            self._measured.move_to_end(index)
            return self._measured[index][0]
        anatomy = self._measure(index)
        size = _bytes_of(anatomy)
        self._measured[index] = (anatomy, size)
        self._bytes += size
        while self._bytes > self.kept and len(self._measured) > 1:
            self._bytes -= self._measured.popitem(last=False)[1][1]
        return anatomy

    def _measure(self, index: int) -> SliceAnatomy:
        labels = np.asarray(self.store.labels[index])
        numbers = self._numbers[np.searchsorted(self.indices, index)]
        roots = self._roots[index]
        order: dict[int, int] = {}
        bodies = []
        for number, root in enumerate(roots, 1):
            order[root] = order.get(root, -1) + 1
            surface = surface_of(numbers == number)
            if surface is not None:
                bodies.append(Body(root, order[root], surface))
        walls = [wall for label in self.nesting.parents if (wall := self._wall(label, labels)) is not None]
        return SliceAnatomy(tuple(bodies), tuple(walls))

    def _wall(self, label: int, labels: NDArray[np.uint8]) -> Wall | None:
        cavity = np.isin(labels, self.nesting.within(label))
        whole = cavity | (labels == self.nesting.parents[label])
        return wall_of(label, self.nesting.depth(label), cavity, whole)


def _bytes_of(anatomy: SliceAnatomy) -> int:
    surfaces = [*(body.surface for body in anatomy.bodies), *(wall.cavity for wall in anatomy.walls)]
    planes = [plane for surface in surfaces for plane in (surface.distance, surface.normal, surface.half_width)]
    planes += [plane for wall in anatomy.walls for plane in (wall.room, wall.thickness)]
    return sum(plane.nbytes for plane in planes)
