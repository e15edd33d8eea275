"""Both stages of ARCO, with every part a setting: what ``arco``, ``reco`` and ``mona`` have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewlabel.core.errors import Fault
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.representation_head import Pyramid, pyramid
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.objectives.affine_equivariance import equivariance, random_warps, warp_images
from fewlabel.objectives.class_banks import ClassBanks
from fewlabel.objectives.memory import FifoQueue
from fewlabel.objectives.pseudo_labels import confident_cross_entropy, pseudo_labels
from fewlabel.objectives.segmentation import IGNORE
from fewlabel.regimes.arco.embedding_losses import EmbeddingTerms
from fewlabel.regimes.arco.relations import Relations
from fewlabel.regimes.arco.settings import ArcoSettings, stride_faults
from fewlabel.regimes.arco.stream_rows import Mixture
from fewlabel.regimes.base import Regime
from fewlabel.regimes.semi_supervised import resting_steps, two_phases
from fewlabel.regimes.stream_statistics import streams
from fewlabel.regimes.supervised_loss import supervised_terms
from fewlabel.regimes.teacher import Teacher


class Anatomical(Regime):
    """Stage 1: ``L_sup + L_inst(global) + L_inst(local)``; stage 2: ``L_sup + λ1 L_con + λ2 L_unsup + λ3 L_nn``.

    The student sees the first view of an unlabelled slice, the teacher the second. Labelled and unlabelled slices go
    through the network in one pass. Each stage is a training of its own, the second from the weights of the first: with
    its schedule of the rate, its moments of the optimiser, and teachers that start as their students. Parts whose
    weight is 0 are neither computed nor made.
    """

    settings: ArcoSettings
    uses_unlabelled: ClassVar[bool] = True
    unlabelled_views: ClassVar[int] = 2
    supports_3d: ClassVar[bool] = True
    supervised_when: ClassVar[Mapping[str, Any]] = {
        "pretrain_share": 0.0,
        "contrast_weight": 0.0,
        "unsup_weight": 0.0,
        "nn_weight": 0.0,
        "eqv_weight": 0.0,
    }

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, size: Sequence[int] | None = None) -> list[Fault]:  # noqa: ARG003
        """A stride of embeddings that no map of the network has."""
        return stride_faults(config, network) if config.embeds else []

    def __init__(self, config: ArcoSettings, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self.share = config.stage_one(pretrained=pretrained)
        relates = self.share > 0
        self.teacher = Teacher(network, config.momentum) if relates or config.teaches else None
        self.embedding = EmbeddingTerms(config, network) if config.embeds else None
        self.relations = Relations(config, network) if relates else None
        self._metrics: dict[str, Tensor | float] = {}

    def losses(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """The terms of the stage that the step belongs to."""
        first = self._relates(batch.step, batch.total_steps)
        self._metrics = {"stage": 1.0 if first else 2.0}
        images, key_views, slices = unlabelled_views(batch)
        if self.relations is not None and first and len(images):
            labelled = len(batch.images)
            with streams(self.settings, self, labelled, len(images)):
                student_maps = pyramid(self.network, torch.cat([batch.images, images]))
            unlabelled = [level[labelled:] for level in student_maps.maps]
            terms = self.relations(unlabelled, self._taught(key_views).maps, slices)
            self._metrics |= self.relations.figures
            return {**self._supervision(student_maps.logits[:labelled], batch.labels), **terms}
        if first or not self.settings.teaches:
            return self._supervision(self.network(batch.images), batch.labels)
        return self._anatomy(batch, images, key_views, slices)

    def _relates(self, step: int, total_steps: int) -> bool:
        """Whether a step belongs to stage 1."""
        return step < self._first(total_steps)

    @classmethod
    def phase_lengths(cls, config: Any, total_steps: int, *, pretrained: bool = False) -> tuple[int, ...]:
        """Stage 1 and stage 2 are trainings of their own, the second from the weights of the first."""
        return two_phases(resting_steps(config.stage_one(pretrained=pretrained), total_steps), total_steps)

    def _first(self, total_steps: int) -> int:
        """The step at which stage 2 begins."""
        return resting_steps(self.share, total_steps)

    def _anatomy(
        self, batch: SegmentationBatch, images: Tensor, key_views: Tensor, slices: Tensor
    ) -> dict[str, Tensor]:
        """Stage 2."""
        settings, labelled, every = self.settings, len(batch.images), len(batch.images) + len(images)
        # Of labelled slices the teacher gives keys alone; without embeddings there are none to give.
        key_images = batch.images if self.embedding is not None else batch.images[:0]
        if settings.mix == "none" or len(images) == 0:
            teacher_maps = self._taught(key_images, key_views)
            labels, confidence = pseudo_labels(teacher_maps.logits[len(key_images) :])
        else:
            teacher_maps = self._taught(key_views)
            labels, confidence = pseudo_labels(teacher_maps.logits)
            mixture = Mixture(settings.mix, labels, self.network.classes, batch.generator)
            images, key_views, labels, confidence = (mixture(part) for part in (images, key_views, labels, confidence))
            if self.embedding is not None:
                teacher_maps = self._taught(key_images, key_views)
        inputs, warps = [batch.images, images], None
        if settings.eqv_weight and len(images):
            warps = random_warps(len(images), images.shape[2:], batch.generator)
            inputs.append(warp_images(images, warps))
        with streams(settings, self, labelled, sum(len(part) for part in inputs[1:])):
            student_maps = pyramid(self.network, torch.cat(inputs))
        terms = self._supervision(student_maps.logits[:labelled], batch.labels)
        if self.embedding is not None:
            known = torch.cat([batch.labels, labels.where(confidence >= settings.pixel_confidence, IGNORE)])
            rows = Pyramid([level[:every] for level in student_maps.maps], student_maps.logits[:every])
            terms |= self.embedding(batch, rows, teacher_maps, known, slices)
            self._metrics |= self.embedding.figures
        if settings.unsup_weight:
            loss = confident_cross_entropy(student_maps.logits[labelled:every], labels, confidence, settings.confidence)
            terms["unsup"] = settings.unsup_weight * loss
            sure = (confidence >= settings.confidence).sum() / max(confidence.numel(), 1)
            self._metrics |= {"unsup": loss.detach(), "sure": sure}
        if warps is not None:
            loss = equivariance(
                student_maps.logits[labelled:every], student_maps.logits[every:], warps, settings.eqv_confidence
            )
            terms["eqv"] = settings.eqv_weight * loss
            self._metrics["eqv"] = loss.detach()
        return terms

    def _supervision(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        return supervised_terms(self.settings, logits, labels)

    @torch.no_grad()
    def _taught(self, *images: Tensor) -> Pyramid:
        network = None if self.teacher is None else self.teacher.network
        if not isinstance(network, UNet):
            raise TypeError("a teacher averages the network it was made of")
        with streams(self.settings, network, *map(len, images)):
            return pyramid(network, torch.cat(images))

    def metrics(self) -> dict[str, float]:
        """Losses without their weights, negatives there were, variances where measured, and bytes of all banks."""
        return {**{name: float(value) for name, value in self._metrics.items()}, "bank_bytes": float(self.bank_bytes)}

    @property
    def bank_bytes(self) -> int:
        """Memory of all banks; it does not grow."""
        banks = [part.keys for part in self.modules() if isinstance(part, FifoQueue | ClassBanks)]
        return sum(keys.numel() * keys.element_size() for keys in banks)

    def after_step(self, step: int, total_steps: int) -> None:
        """Teachers follow, and what the step gave enters the banks."""
        # Stage 2 starts with teachers that are their students, not with an average of how stage 1 began.
        first = self._first(total_steps)
        age = step if step + 1 < first else max(step - first, 0)
        if self.teacher is not None:
            self.teacher.update(self.network, age)
        for part in (self.embedding, self.relations):
            if part is not None:
                part.follow(age)


def unlabelled_views(batch: SegmentationBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Both views of the unlabelled slices and their indices; of length 0 where the batch has none.

    Raises:
        ValueError: If unlabelled slices come without their indices.
    """
    if batch.unlabelled is None:
        return batch.images[:0], batch.images[:0], batch.slices[:0]
    if batch.unlabelled_slices is None:
        raise ValueError("unlabelled slices come with their indices")
    second_views = batch.unlabelled_again[0] if batch.unlabelled_again else batch.unlabelled
    return batch.unlabelled, second_views, batch.unlabelled_slices
