"""The parts of stage 2 that look at embeddings: the pixel contrast, the nearest neighbours, and what is measured."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.collective import gather
from fewlabel.core.full_precision import full_precision
from fewlabel.core.rng import torch_stream
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.representation_head import Pyramid, Representation, RepresentationHead, RowHead
from fewlabel.nets.unet import UNet
from fewlabel.objectives.memory import FifoQueue
from fewlabel.objectives.relation_consistency import nearest, neighbour_distance
from fewlabel.objectives.segmentation import IGNORE
from fewlabel.objectives.semi_supervised_loss_parts import probabilities
from fewlabel.regimes.arco.contrast import AnatomicalContrast, Opponents
from fewlabel.regimes.arco.gradient_variance import gradient_variance
from fewlabel.regimes.arco.settings import ArcoSettings
from fewlabel.regimes.arco.stream_rows import at_places
from fewlabel.regimes.stream_statistics import streams
from fewlabel.regimes.teacher import Teacher


class EmbeddingTerms(nn.Module):
    """The representation head with its teacher, the banks, and the two losses on embeddings.

    Args:
        settings: Weights and sizes.
        network: Whose maps the head reads; it has one of the stride asked for.
    """

    def __init__(self, settings: ArcoSettings, network: UNet) -> None:
        super().__init__()
        self.settings = settings
        self.head = RepresentationHead(network.config, settings.dim, settings.stride)
        self.teacher = Teacher(self.head, settings.momentum)
        self.contrast = AnatomicalContrast(settings, network.classes)
        self.predictor = RowHead(settings.dim, settings.dim) if settings.nn_weight else None
        self.past = FifoQueue(settings.memory, settings.dim)
        self._waiting: tuple[Tensor, Tensor] | None = None
        self.figures: dict[str, Tensor] = {}

    def forward(
        self, batch: SegmentationBatch, student_maps: Pyramid, teacher_maps: Pyramid, labels: Tensor, slices: Tensor
    ) -> dict[str, Tensor]:
        """Weighted terms ``contrast`` and ``nn``; one with weight 0 is not computed.

        Args:
            batch: The batch, for its step and generator.
            student_maps: What the student made of this rank's rows, the labelled ones first.
            teacher_maps: What the teacher made of them.
            labels: (rows, *space) int64, 255 where a pixel is ignored.
            slices: (u,) int64 of the unlabelled rows.
        """
        settings, labelled = self.settings, len(labels) - len(slices)
        self.figures = {}
        with streams(settings, self.head, labelled, len(slices)):
            student = self.head(student_maps.maps)
        with streams(settings, self.teacher, labelled, len(slices)):
            teacher = self.represented(teacher_maps)
        terms: dict[str, Tensor] = {}
        if settings.contrast_weight:
            places = student.output.shape[2:]
            keys = at_places(labels, places, 1)
            queries = (
                keys if settings.hard is None else _hard(keys, at_places(student_maps.logits, places, 2), settings.hard)
            )
            loss, opponents = self.contrast.loss(student, teacher, queries, keys, labelled, batch.generator)
            terms["contrast"] = settings.contrast_weight * loss
            self.figures["contrast"] = loss.detach()
            self._measure(batch, student, queries, opponents)
        if self.predictor is not None and len(slices):
            mine = functional.normalize(full_precision(self.predictor(pooled(student.output[labelled:]))), dim=1)
            theirs = functional.normalize(pooled(teacher.output[labelled:]), dim=1)
            bank = self.past.keys.to(mine)
            neighbours = nearest(theirs, bank, self.past.candidates(slices), settings.neighbours)
            loss = neighbour_distance(mine, bank, *neighbours)
            terms["nn"] = settings.nn_weight * loss
            self.figures["nn"] = loss.detach()
            self._waiting = (gather(theirs), gather(slices))
        return terms

    @torch.no_grad()
    def represented(self, teacher_maps: Pyramid) -> Representation:
        """The teacher's embeddings of its own maps.

        Raises:
            TypeError: If the teacher's head is none.
        """
        head = self.teacher.network
        if not isinstance(head, RepresentationHead):
            raise TypeError("a teacher averages the head it was made of")
        return head.forward(teacher_maps.maps)

    def _measure(self, batch: SegmentationBatch, student: Representation, labels: Tensor, opponents: Opponents) -> None:
        """Negatives of each class at every step; now and then the variance under each sampling."""
        settings = self.settings
        self.figures |= {f"negatives/{label}": count for label, count in enumerate(opponents.available.unbind())}
        if settings.diagnose_every and batch.step % settings.diagnose_every == 0:
            variance = gradient_variance(
                student,
                labels,
                opponents,
                queries=settings.queries,
                grid=settings.grid,
                temperature=settings.temperature,
                # A stream of its own: what is measured must not change what is trained.
                generator=torch_stream(batch.generator.initial_seed(), "variance"),
            )
            self.figures |= {f"variance/{name}": value for name, value in variance.items()}

    def follow(self, step: int) -> None:
        """After a step: the teacher's head moves, and what the step gave enters the banks."""
        self.teacher.update(self.head, step)
        self.contrast.push()
        if self._waiting is not None:
            self.past.push(*self._waiting)
        self._waiting = None


def _hard(labels: Tensor, logits: Tensor, limit: float) -> Tensor:
    """Labels (n, *places) of the pixels to whose class logits (n, classes, *places) give less than a probability."""
    known = (labels != IGNORE)[:, None]
    own = probabilities(logits.detach()).gather(1, torch.where(known, labels[:, None], 0))
    return torch.where(own[:, 0] < limit, labels, IGNORE)


def pooled(outputs: Tensor) -> Tensor:
    """Mean over places of (n, dim, *places): (n, dim)."""
    return full_precision(outputs).flatten(2).mean(dim=2)
