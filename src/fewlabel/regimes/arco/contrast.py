"""The anatomical contrast of stage 2: which pixels are drawn, what they are held against, and what is remembered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fewlabel.core.collective import sum_across
from fewlabel.core.full_precision import full_precision
from fewlabel.nets.projection_heads import pixel_rows
from fewlabel.nets.representation_head import Representation
from fewlabel.objectives.class_banks import ClassBanks
from fewlabel.objectives.prototype_contrast import class_means, prototype_contrast, prototype_logits, similarity_mass
from fewlabel.objectives.stratified_sampling import Sampling, Strata, draw_pixels, pixel_strata
from fewlabel.regimes.arco.settings import ArcoSettings
from fewlabel.regimes.arco.stream_rows import join_streams, own_index


@dataclass(frozen=True)
class Opponents:
    """What the queries of a step are held against.

    Attributes:
        prototypes: (classes, dim).
        negatives: (classes, negatives, dim).
        available: (classes,) int64, keys of other classes that there were to draw from.
        counted: (classes,) bool, classes with queries, prototype and negatives.
    """

    prototypes: Tensor
    negatives: Tensor
    available: Tensor
    counted: Tensor


class AnatomicalContrast(nn.Module):
    """Draws, banks and loss; the same on one process and on many.

    Queries are the student's embeddings, keys and prototypes the teacher's. Pixels are drawn over the joined batch;
    each process fetches those it has.
    """

    def __init__(self, settings: ArcoSettings, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.classes = classes
        self.banks = ClassBanks(classes, settings.bank, settings.dim)
        self._waiting: tuple[Tensor, Tensor] | None = None

    def loss(
        self,
        student: Representation,
        teacher: Representation,
        query_labels: Tensor,
        key_labels: Tensor,
        labelled: int,
        generator: Generator,
    ) -> tuple[Tensor, Opponents]:
        """This rank's share of the loss; the keys then wait for :meth:`push`.

        Args:
            student: Of this rank's rows, the labelled ones first.
            teacher: The same rows.
            query_labels: (rows, *places) int64 classes of the pixels that may be queries, 255 elsewhere.
            key_labels: The same for keys and prototypes.
            labelled: How many rows are labelled.
            generator: CPU generator, equal on all ranks.
        """
        settings = self.settings
        sampling: Sampling = "ns" if settings.key_sampling == "ns" else settings.sampling
        unit = functional.normalize(full_precision(pixel_rows(teacher.output.detach())), dim=-1).flatten(0, 1)
        prototypes, counts = class_means(unit, key_labels.flatten(), self.classes)
        present = counts > 0
        index = own_index(labelled, len(key_labels) - labelled, key_labels.device)
        drawn, totals = self._draw(key_labels, query_labels, labelled, sampling, generator)
        where, own = _places(drawn[0], key_labels, index)
        keys = sum_across(torch.where(own[..., None], unit[where], 0))
        available = self.banks.available(keys, present)
        mass = None
        if settings.negatives_by == "likeness":
            mass = similarity_mass(prototypes, present, settings.temperature, available)
        negatives = self.banks.negatives(keys, present, settings.negatives, sampling, generator, mass)
        where, own = _places(drawn[1], query_labels, index)
        rows = pixel_rows(student.output).flatten(0, 1).index_select(0, where.flatten())
        queries = functional.normalize(full_precision(rows), dim=1).view(*where.shape, -1)
        counted = (totals > 0).to(present.device) & present & (available > 0).any(dim=1)
        opponents = Opponents(prototypes, negatives, available.sum(dim=1), counted)
        logits = prototype_logits(queries, prototypes, negatives, settings.temperature)
        self._waiting = (keys, present)
        return prototype_contrast(logits, opponents.counted, own), opponents

    def push(self) -> None:
        """Put the keys of the last loss into the banks; nothing without one."""
        if self._waiting is not None:
            self.banks.push(*self._waiting)
        self._waiting = None

    def _draw(
        self, key_labels: Tensor, query_labels: Tensor, labelled: int, sampling: Sampling, generator: Generator
    ) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Pixels (classes, count) of the joined batch for keys and for queries, and how many may be queries."""
        settings = self.settings
        strata = self._strata(key_labels, labelled, sampling)
        same = query_labels is key_labels and sampling == settings.sampling
        if same and settings.keys == settings.queries:
            # Both at once cost little more than one.
            keys, queries = draw_pixels(strata, settings.keys, sampling, generator, repeats=2)
            return (keys, queries), strata.totals
        keys = draw_pixels(strata, settings.keys, sampling, generator)[0]
        strata = strata if same else self._strata(query_labels, labelled, settings.sampling)
        return (keys, draw_pixels(strata, settings.queries, settings.sampling, generator)[0]), strata.totals

    def _strata(self, labels: Tensor, labelled: int, sampling: Sampling) -> Strata:
        """Of the joined batch."""
        grid = None if sampling == "ns" else self.settings.grid
        return pixel_strata(join_streams(labels, labelled), self.classes, grid)


def _places(pixels: Tensor, labels: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels of the joined batch as flat places of this rank's maps, and whether each is this rank's.

    Args:
        pixels: (classes, count) int64 of the joined batch.
        labels: (rows, *places) of this rank.
        index: Of :func:`own_index`.
    """
    places, pixels = labels[0].numel(), pixels.to(labels.device)
    row = index[pixels // places]
    return row.clamp_min(0) * places + pixels % places, row >= 0
