"""What labelled slices become before they are augmented like all others: other anatomies, made-up contrasts.

Draws are a function of the seed and the step, for the joined batch, from streams of their own; so nothing else that is
drawn changes when they are switched on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.rng import torch_stream
from fewlabel.data.anatomy_warps import AnatomyDraws, anatomy_displacements, draw_anatomies
from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.labelled_structures import AnatomyIndex
from fewlabel.data.patch_positions import Run, volumes_of
from fewlabel.data.store import UNLABELLED, PreparedStore
from fewlabel.data.synthetic_slices import Palette, find_palette, find_regions, synthesise


@dataclass(frozen=True)
class VariantDraws:
    """What was drawn for n rows, on the CPU.

    Attributes:
        anatomies: How their structures move; None where that is switched off.
        looks: (n,) int64, seed of the made-up look of a row, -1 for a row that stays real.
    """

    anatomies: AnatomyDraws | None
    looks: Tensor

    def __getitem__(self, rows: slice | Tensor) -> VariantDraws:
        return VariantDraws(None if self.anatomies is None else self.anatomies[rows], self.looks[rows])


class Variants:
    """Variants of labelled slices.

    Args:
        store: Prepared store.
        indices: Store indices of the labelled slices, ascending and each once; no other mask is read.
        augment: What is drawn; one of the two parts at least is switched on.
        seed: Seed of every draw.
        device: Training device.
    """

    def __init__(
        self,
        store: PreparedStore,
        indices: NDArray[np.int64],
        augment: AugmentConfig,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        self.store = store
        self.augment = augment
        self.seed = seed
        self.device = device
        self.classes = len(store.label_names)
        self._size = (int(store.labels.shape[1]), int(store.labels.shape[2]))
        self._index = AnatomyIndex(store, indices) if augment.anatomy.probability else None
        volumes = volumes_of(store, indices)
        self._volumes = {index: run for run in volumes for index in range(run.start, run.stop)}
        self._palettes: dict[int, Palette] = {}

    def draw(self, step: int, count: int) -> VariantDraws:
        """What the rows of the joined batch of a step become.

        Args:
            step: Number of the step.
            count: Rows of the joined batch.
        """
        anatomies = None
        if self._index is not None:
            stream = torch_stream(self.seed, "anatomy", step)
            anatomies = draw_anatomies(self.augment.anatomy, count, self.classes, stream)
        generator = torch_stream(self.seed, "synthesis", step)
        synthetic = torch.rand(count, generator=generator, dtype=torch.float64) < self.augment.synthesis.probability
        looks = torch.randint(2**62, (count,), generator=generator)
        return VariantDraws(anatomies, torch.where(synthetic, looks, -1))

    def make(
        self, images: Tensor, masks: Tensor, slices: NDArray[np.int64], draws: VariantDraws
    ) -> tuple[Tensor, Tensor | None]:
        """Variants of slices.

        Args:
            images: (n, channels, height, width) float32 on [0, 1], on the training device.
            masks: (n, height, width) class indices, or 255 where unlabelled.
            slices: (n,) their store indices. Beside labelled slices a patch may show others of their scan: they move as
                the nearest labelled one, and where they are made up, it is by their brightness alone.
            draws: A row for each; the slices of a patch are rows of the same.

        Returns:
            Images of the same shape; and how they and their masks are displaced before any other geometry,
            (n, 2, height, width) pixels, None for not at all.
        """
        moved = None
        if self._index is not None and draws.anatomies is not None:
            anatomies = [self._index[self._nearest(int(index))] for index in slices]
            moved = anatomy_displacements(anatomies, draws.anatomies, self._size, self.device)
        made = draws.looks >= 0
        if bool(made.any()) and bool((masks != UNLABELLED).any()):
            images = images.clone()
            for row in torch.nonzero(made).flatten().tolist():
                images[row] = self._synthetic(images[row], masks[row], int(slices[row]), int(draws.looks[row]))
        return images, moved

    def _nearest(self, index: int) -> int:
        """The labelled slice of a scan that is nearest to one of its slices."""
        labelled = self._volumes[index].indices
        return int(labelled[np.abs(labelled - index).argmin()])

    def _synthetic(self, image: Tensor, mask: Tensor, index: int, look: int) -> Tensor:
        palette = self._palette(self._volumes[index])
        regions = find_regions(image[None], mask[None], palette.centres)[0]
        return synthesise(regions, palette, self.augment.synthesis.contrast, look, index)

    def _palette(self, run: Run) -> Palette:
        """Of the labelled slices of a volume, found when it is first needed."""
        if run.start not in self._palettes:
            slices = slice(run.start, run.stop) if run.drawn is None else run.indices
            clusters = self.augment.synthesis.clusters
            images, masks = self.store.images[slices], self.store.labels[slices]
            self._palettes[run.start] = find_palette(images, masks, self.classes, clusters)
        return self._palettes[run.start]


def variants_of(
    store: PreparedStore, indices: NDArray[np.int64], augment: AugmentConfig, *, seed: int, device: torch.device
) -> Variants | None:
    """Variants of these slices, or None where nothing of them is switched on; arguments are those of the class."""
    if not augment.anatomy.probability and not augment.synthesis.probability:
        return None
    return Variants(store, indices, augment, seed=seed, device=device)
