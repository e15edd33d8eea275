"""A few slices that stand for many: spread over subjects and from base to apex, and read as prediction reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from fewlabel.core.rng import numpy_stream
from fewlabel.data.intensity_changes import standardise
from fewlabel.data.patch_positions import Patch
from fewlabel.data.store import PreparedStore

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Spread:
    """Slices of a store, or patches about them.

    Attributes:
        store: Where they are read.
        slices: Their store indices, subjects and heights mixed, so that any run of them is spread too.
        patch: Size of the patches (depth, height, width) in voxels; None for whole slices.
        seed: Seed of the places of patches in the plane.
    """

    store: PreparedStore
    slices: Indices
    patch: Patch | None
    seed: int

    @property
    def subjects(self) -> list[str]:
        """Whose slices they are, sorted."""
        return sorted(set(self.store.slices["subject"].iloc[self.slices]))

    def batches(self, rows: int, device: torch.device | str = "cpu") -> Iterator[Tensor]:
        """All of them in batches of about equal size, standardised and without augmentation.

        A patch has its slice in the middle, as far as the volume reaches, and lies anywhere in the plane. A volume
        smaller than a patch is continued by its edge.

        Args:
            rows: Largest number of rows of a batch.
            device: Where the batches go.

        Yields:
            (rows, channels, *space) float32, channels-last.
        """
        if not len(self.slices):
            return
        places = np.arange(len(self.slices))
        for part in np.array_split(places, ceil(len(places) / rows)):
            if self.patch is None:
                images = torch.from_numpy(self.store.images[self.slices[part]])
                layout = torch.channels_last
                batch = standardise(images.to(device))
            else:
                layout = torch.channels_last_3d
                batch = torch.stack([self._patch(int(place), self.patch) for place in part]).to(device)
            yield batch.contiguous(memory_format=layout)

    def _patch(self, place: int, patch: Patch) -> Tensor:
        """(channels, *patch) about the slice of that place."""
        table = self.store.slices.iloc[self.slices[place]]
        start = int(self.slices[place]) - int(table["z"])
        depth = int(table["depth"])
        first = min(max(int(table["z"]) - patch[0] // 2, 0), max(depth - patch[0], 0))
        images = torch.from_numpy(np.array(self.store.images[start + first : start + min(first + patch[0], depth)]))
        # Slices are standardised in full, as they are at prediction, and cut afterwards.
        plane = standardise(images).transpose(0, 1)
        drawn = numpy_stream(self.seed, "place of a patch", place).random(2)
        sides = zip(plane.shape[2:], patch[1:], drawn, strict=True)
        top, left = (int(u * (max(side - wanted, 0) + 1)) for side, wanted, u in sides)
        cut = plane[:, :, top : top + patch[1], left : left + patch[2]]
        missing = [wanted - side for side, wanted in zip(cut.shape[1:], patch, strict=True)]
        pads = [pad for amount in reversed(missing) for pad in (0, amount)]
        return functional.pad(cut[None], pads, mode="replicate")[0] if any(missing) else cut


def spread_slices(store: PreparedStore, indices: Indices, count: int, seed: int) -> Indices:
    """At most ``count`` of these slices: equal parts of every subject and of its scans, each from end to end.

    A subject or scan with fewer slices than its part gives all of them, and the others make up for it.

    Args:
        store: Prepared store.
        indices: Store indices to choose from.
        count: How many.
        seed: Seed of who comes first where parts cannot be equal, and of the order of the result.

    Returns:
        Store indices, each once, in random order.
    """
    rows = np.unique(indices)
    table = store.slices.iloc[rows]
    scans: dict[str, dict[str, Indices]] = {}
    for (subject, case), group in table.assign(row=rows).groupby(["subject", "case"], sort=True):
        scans.setdefault(str(subject), {})[str(case)] = group["row"].to_numpy()[np.argsort(group["z"].to_numpy())]
    generator = numpy_stream(seed, "slices to spread")
    order = [list(scans)[place] for place in generator.permutation(len(scans))]
    shares = _equal_shares([sum(map(len, scans[subject].values())) for subject in order], count)
    parts: list[tuple[Indices, int]] = []
    for subject, share in zip(order, shares, strict=True):
        own = [list(scans[subject].values())[place] for place in generator.permutation(len(scans[subject]))]
        parts += zip(own, _equal_shares([len(scan) for scan in own], share), strict=True)
    picked = [np.empty(0, np.int64)]
    for number, (scan, share) in enumerate(parts):
        # Steps of equal length, begun elsewhere in each scan: together they fall at all heights alike.
        steps = (np.arange(share) + (number + 0.5) / len(parts)) / max(share, 1)
        picked.append(scan[np.floor(steps * len(scan)).astype(np.int64)])
    return generator.permutation(np.concatenate(picked))


def _equal_shares(sizes: list[int], count: int) -> list[int]:
    """Parts of ``count`` that are as equal as the sizes allow; what does not divide goes to the first."""
    shares = [0] * len(sizes)
    left = min(count, sum(sizes))
    while left:
        takers = [place for place, size in enumerate(sizes) if shares[place] < size]
        each = max(left // len(takers), 1)
        for place in takers:
            taken = min(each, sizes[place] - shares[place], left)
            shares[place] += taken
            left -= taken
    return shares
