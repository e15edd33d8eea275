"""What regimes with a teacher share: its momentum, when it moves, and which of the two networks is kept."""

from __future__ import annotations

from typing import Literal

from fewlabel.core.settings.base import setting
from fewlabel.nets.unet import UNet
from fewlabel.regimes.semi_supervised import SemiSettings, SemiSupervised
from fewlabel.regimes.teacher import Teacher


class TeacherStudentSettings(SemiSettings):
    """Settings of regimes with a teacher."""

    momentum: float = setting(0.99, "α of the teacher", ge=0, le=1, source="SSL4MIS")
    predict: Literal["student", "teacher"] = setting("student", "which network is kept", source="SSL4MIS")


class TeacherStudent(SemiSupervised):
    """A regime whose targets come from the moving average of its student; policy in ``fewlabel.regimes.teacher``."""

    settings: TeacherStudentSettings

    def __init__(self, config: TeacherStudentSettings, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self.teacher = Teacher(network, config.momentum)

    def inference_network(self) -> UNet:
        """The student, or the teacher if ``predict`` says so."""
        network = self.teacher.network if self.settings.predict == "teacher" else self.network
        if not isinstance(network, UNet):
            raise TypeError("a teacher averages the network it was made of")
        return network

    def after_step(self, step: int, total_steps: int) -> None:  # noqa: ARG002
        """The teacher follows the student."""
        self.teacher.update(self.network, step, fed=self.joined)
