"""Mean Teacher: the student must agree with its own moving average on noisy unlabelled slices."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.objectives.batch_noise_and_turns import gaussian_noise
from fewlabel.objectives.semi_supervised_loss_parts import probabilities, squared_difference
from fewlabel.regimes.semi_supervised import concat_streams
from fewlabel.regimes.teacher_student import TeacherStudent, TeacherStudentSettings


class MeanTeacher(TeacherStudent):
    """Mean Teacher (Tarvainen & Valpola, NeurIPS 2017, arXiv 1703.01780; for MR: Perone & Cohen-Adad, 2018).

    ``L_sup + λ(t) · mean (σ(f_s(x_u)) - σ(f_t(x_u + ε)))²`` over pixels and classes, ε noise of each pixel; the teacher
    f_t is the moving average of the student f_s.

    What differs from the public code of SSL4MIS: the teacher starts as the student (there: other random weights). λ
    rests for the first 1/30 of the run, as there. The student predicts; ``predict=teacher`` takes the average.

    Example:
        >>> regime = MeanTeacher(MeanTeacher.Config(momentum=0.999, predict="teacher"), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'consistency']
    """

    class Config(TeacherStudentSettings):
        """Settings of Mean Teacher."""

        name: str = "mean_teacher"
        rest: float = setting(
            1 / 30,
            "share of the run, from its start, in which λ is 0",
            ge=0,
            lt=1,
            source="SSL4MIS: 1000 of 30000 iterations",
        )
        noise: float = setting(
            0.4,
            "deviation of the teacher's noise",
            unit="standard deviations of the slice",
            ge=0,
            source="SSL4MIS: 0.1 of slices in [0, 1], whose deviation is about 0.25",
        )
        noise_limit: float = setting(
            0.8, "largest noise", unit="standard deviations of the slice", ge=0, source="SSL4MIS: 0.2, as the deviation"
        )

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Tarvainen & Valpola, NeurIPS 2017, arXiv 1703.01780; Perone & Cohen-Adad, DLMIA 2018"

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``consistency``."""
        settings = self.settings
        with self.streams(len(batch.images), len(unlabelled)):
            logits = self.network(concat_streams(batch, unlabelled))
        labelled = len(batch.images)
        noise = gaussian_noise(unlabelled, settings.noise, settings.noise_limit, batch.generator)
        target = probabilities(self.teacher(unlabelled + noise))
        distance = squared_difference(probabilities(logits[labelled:]), target).mean()
        self.log(consistency=distance)
        return {**self.supervision(logits[:labelled], batch.labels), "consistency": weight * distance}
