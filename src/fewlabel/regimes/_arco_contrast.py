"""The anatomical contrast of stage 2: which pixels are drawn, what they are held against, and what is remembered."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from fewlabel.core.collective import sum_across
from fewlabel.nets.fpn import Representation
from fewlabel.nets.heads import pixel_rows
from fewlabel.objectives.class_banks import ClassBanks
from fewlabel.objectives.contrastive import full_precision
from fewlabel.objectives.prototype import class_means, prototype_contrast, prototype_logits, similarity_mass
from fewlabel.objectives.stratified import Sampling, draw_pixels, pixel_strata
from fewlabel.regimes._arco_rows import join_streams, own_index
from fewlabel.regimes._arco_settings import ArcoSettings


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
        chosen = self.settings
        sampling: Sampling = "ns" if chosen.key_sampling == "ns" else chosen.sampling
        unit = functional.normalize(full_precision(pixel_rows(teacher.output.detach())), dim=-1).flatten(0, 1)
        prototypes, counts = class_means(unit, key_labels.flatten(), self.classes)
        present = counts > 0
        where, own, _ = self._draw(key_labels, labelled, chosen.keys, sampling, generator)
        keys = sum_across(torch.where(own[..., None], unit[where], 0))
        available = self.banks.available(keys, present)
        mass = None
        if chosen.negatives_by == "likeness":
            mass = similarity_mass(prototypes, present, chosen.temperature, available)
        negatives = self.banks.negatives(keys, present, chosen.negatives, sampling, generator, mass)
        where, own, totals = self._draw(query_labels, labelled, chosen.queries, chosen.sampling, generator)
        rows = pixel_rows(student.output).flatten(0, 1).index_select(0, where.flatten())
        queries = functional.normalize(full_precision(rows), dim=1).view(*where.shape, -1)
        found = Opponents(
            prototypes, negatives, available.sum(dim=1), (totals > 0) & present & (available > 0).any(dim=1)
        )
        logits = prototype_logits(queries, prototypes, negatives, chosen.temperature)
        self._waiting = (keys, present)
        return prototype_contrast(logits, found.counted, own), found

    def push(self) -> None:
        """Put the keys of the last loss into the banks; nothing without one."""
        if self._waiting is not None:
            self.banks.push(*self._waiting)
        self._waiting = None

    def _draw(
        self, labels: Tensor, labelled: int, count: int, sampling: Sampling, generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels of this rank (classes, count), whether each is this rank's, and (classes,) pixels there were."""
        joined = join_streams(labels, labelled)
        strata = pixel_strata(joined, self.classes, None if sampling == "ns" else self.settings.grid)
        pixels = draw_pixels(strata, count, sampling, generator)[0]
        places = labels[0].numel()
        row = own_index(labelled, len(labels) - labelled, labels.device)[pixels // places]
        return row.clamp_min(0) * places + pixels % places, row >= 0, strata.totals
