"""Interpolation consistency: a mix of two unlabelled slices is predicted as the mix of their predictions."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewlabel.core.collective import gather
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.objectives.mixing import beta_shares, mix, partners
from fewlabel.objectives.semi_supervised_loss_parts import probabilities, squared_difference
from fewlabel.regimes.semi_supervised import concat_streams
from fewlabel.regimes.teacher_student import TeacherStudent, TeacherStudentSettings


class InterpolationConsistency(TeacherStudent):
    """ICT (Verma et al., IJCAI 2019, arXiv 1903.03825).

    ``L_sup + λ(t) · mean (σ(f_s(μ u + (1-μ) u')) - (μ σ(f_t(u)) + (1-μ) σ(f_t(u'))))²`` over pixels and classes, with
    μ ~ Beta(``alpha``, ``alpha``) per slice and f_t the moving average of f_s.

    What differs from the public code of SSL4MIS: each unlabelled slice u of the batch is mixed with another one of it,
    u' (there: one half with the other, so that the mixed batch is half as large). A batch does not tell patients apart,
    so u and u' may be slices of one patient.

    Example:
        >>> regime = InterpolationConsistency(InterpolationConsistency.Config(alpha=0.5), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'consistency']
    """

    class Config(TeacherStudentSettings):
        """Settings of ICT."""

        name: str = "ict"
        alpha: float = setting(0.2, "α of the Beta distribution of the shares", gt=0, source="SSL4MIS")

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Verma et al., IJCAI 2019, arXiv 1903.03825"

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``consistency``."""
        rows, labelled = len(unlabelled), len(batch.images)
        other = partners(rows, batch.generator).to(unlabelled.device)
        shares = beta_shares(rows, self.settings.alpha, batch.generator).to(unlabelled)
        guess = probabilities(self.teacher(unlabelled))
        target = mix(guess, gather(guess)[other], shares)
        mixed = mix(unlabelled, gather(unlabelled)[other], shares)
        with self.streams(labelled, rows):
            logits = self.network(concat_streams(batch, mixed))
        distance = squared_difference(probabilities(logits[labelled:]), target).mean()
        self.log(consistency=distance)
        return {**self.supervision(logits[:labelled], batch.labels), "consistency": weight * distance}
