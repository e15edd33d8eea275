"""Uncertainty-aware Mean Teacher: agreement counts only where the teacher is sure of itself."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from torch import Generator, Tensor

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.synchronised_batch_norm import separate_statistics
from fewlabel.objectives.batch_noise_and_turns import gaussian_noise
from fewlabel.objectives.semi_supervised_loss_parts import masked_mean, probabilities, ramp_up, squared_difference
from fewlabel.regimes.semi_supervised import concat_streams
from fewlabel.regimes.teacher_student import TeacherStudent, TeacherStudentSettings


class UncertaintyAwareMeanTeacher(TeacherStudent):
    """UA-MT (Yu et al., MICCAI 2019, arXiv 1907.07034).

    ``L_sup + λ(t) · Σ m·(σ(f_s(x_u)) - σ(f_t(x_u + ε)))² / (C · Σ m)`` over pixels and the C classes, with
    m = [H(p̄) ≤ h(t)], p̄ the mean of ``passes`` further noisy passes of the teacher, H = -Σ p̄ log p̄, and
    h(t) = (``threshold_start`` + (``threshold_end`` - ``threshold_start``) · exp(-5 (1 - t/T)²)) · H_max.

    What differs from the public code: H_max is log C, the entropy that C classes can have, where the code keeps the
    log 2 of its two-class task (``max_entropy=ln2``); the sum is divided by C, there by 2 for the same reason; where
    the teacher is sure nowhere the part is 0. Passes differ by their noise alone: our U-Net has no dropout. Each
    is normalised by itself, so ``passes_at_once`` changes memory and speed, not the result.

    Example:
        >>> regime = UncertaintyAwareMeanTeacher(UncertaintyAwareMeanTeacher.Config(passes=4), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'consistency']
    """

    class Config(TeacherStudentSettings):
        """Settings of UA-MT."""

        name: str = "ua_mt"
        noise: float = setting(
            0.1, "deviation of the teacher's noise", unit="standard deviations of the slice", ge=0, source="UA-MT"
        )
        noise_limit: float = setting(
            0.2, "largest noise", unit="standard deviations of the slice", ge=0, source="UA-MT"
        )
        passes: int = setting(8, "noisy passes whose mean tells how sure the teacher is", ge=1, source="UA-MT")
        passes_at_once: int = setting(4, "passes in one batch of the teacher", ge=1, source="own choice; UA-MT: 2")
        max_entropy: Literal["lnC", "ln2"] = setting("lnC", "unit of the thresholds", source="own choice; UA-MT: ln2")
        threshold_start: float = setting(
            0.75, "largest entropy that counts as sure, at the start", unit="max_entropy", ge=0, source="UA-MT"
        )
        threshold_end: float = setting(1.0, "the same at the end of the run", unit="max_entropy", ge=0, source="UA-MT")

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Yu et al., MICCAI 2019, arXiv 1907.07034"

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``consistency``."""
        with self.streams(len(batch.images), len(unlabelled)):
            logits = self.network(concat_streams(batch, unlabelled))
        labelled = len(batch.images)
        target = probabilities(self.teacher(self._noisy(unlabelled, batch.generator)))
        uncertainty = self.uncertainty(unlabelled, batch.generator)
        sure = (uncertainty <= self.threshold(batch.step, batch.total_steps))[:, None]
        distance = masked_mean(squared_difference(probabilities(logits[labelled:]), target), sure)
        self.log(consistency=distance, sure=sure.to(target).mean(), uncertainty=uncertainty.mean())
        return {**self.supervision(logits[:labelled], batch.labels), "consistency": weight * distance}

    def uncertainty(self, unlabelled: Tensor, generator: Generator) -> Tensor:
        """Entropy of the teacher's mean over noisy passes: (u, *space), in nats, from 0 to log C."""
        passes, rows = self.settings.passes, len(unlabelled)
        total: Tensor | None = None
        for start in range(0, passes, self.settings.passes_at_once):
            count = min(self.settings.passes_at_once, passes - start)
            noisy = torch.cat([self._noisy(unlabelled, generator) for _ in range(count)])
            with separate_statistics(self.teacher, [rows] * count):
                guesses = probabilities(self.teacher(noisy))
            part = guesses.view(count, rows, *guesses.shape[1:]).sum(dim=0)
            total = part if total is None else total + part
        if total is None:
            raise ValueError("the teacher needs a pass")
        mean = total / passes
        uncertainty = -torch.xlogy(mean, mean).sum(dim=1)
        return uncertainty.clamp(0, math.log(mean.shape[1]))

    def threshold(self, step: int, total_steps: int) -> float:
        """h(t) in nats."""
        settings = self.settings
        unit = math.log(2 if settings.max_entropy == "ln2" else self.network.classes)
        grown = ramp_up(step, total_steps) * (settings.threshold_end - settings.threshold_start)
        return (settings.threshold_start + grown) * unit

    def _noisy(self, unlabelled: Tensor, generator: Generator) -> Tensor:
        return unlabelled + gaussian_noise(unlabelled, self.settings.noise, self.settings.noise_limit, generator)
