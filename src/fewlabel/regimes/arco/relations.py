"""Stage 1: a slice, or a patch of one, should be alike to mined views in the student's eyes as in the teacher's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewlabel.core.collective import gather, rank
from fewlabel.core.full_precision import full_precision
from fewlabel.nets.projection_heads import pixel_rows
from fewlabel.nets.representation_head import RowHead
from fewlabel.nets.unet import UNet
from fewlabel.objectives.contrastive import similarity_logits
from fewlabel.objectives.memory import FifoQueue
from fewlabel.objectives.relation_consistency import relational_kl
from fewlabel.regimes.arco.settings import ArcoSettings
from fewlabel.regimes.teacher import Teacher


@dataclass(frozen=True)
class Owners:
    """Whose the rows of a step are: (S,) int64 slices of the joined batch, and where this rank's begin and end."""

    joined: Tensor
    start: int
    stop: int


def owners_of(slices: Tensor) -> Owners:
    """From the slices of this rank."""
    start = rank() * len(slices)
    return Owners(gather(slices), start, start + len(slices))


class InstanceDiscrimination(nn.Module):
    """Relational loss of rows against a bank of past teacher rows (ARCO, stage 1).

    The student has a projector and a predictor; the teacher's projector is a copy that follows the student's and has
    no gradient. (In the public code it is neither copied nor frozen.) The bank never holds rows of the step at hand,
    and a slice never meets its own past rows; one that has no other to meet, as in the first step, is held against
    the teacher's rows of the other slices of the batch.

    Args:
        channels: Size of a row.
        rows: Rows of a slice: 1, or its patches.
        settings: Sizes and temperatures.
    """

    def __init__(self, channels: int, rows: int, settings: ArcoSettings) -> None:
        super().__init__()
        self.settings = settings
        self.projector = RowHead(channels, settings.dim)
        self.predictor = RowHead(settings.dim, settings.dim)
        self.teacher = Teacher(self.projector, settings.momentum)
        self.bank = FifoQueue(settings.memory * rows, settings.dim)
        self._waiting: tuple[Tensor, Tensor] | None = None

    def loss(self, student: Tensor, teacher: Tensor, owners: Owners) -> Tensor:
        """This rank's share; the teacher's rows then wait for :meth:`follow`.

        Args:
            student: (u, rows, channels) of this rank's slices.
            teacher: The same slices in the teacher's view.
            owners: Whose they are.
        """
        student_rows = functional.normalize(full_precision(self.predictor(self.projector(student))), dim=-1)
        teacher_rows = functional.normalize(self.teacher(teacher), dim=-1)
        joined = gather(teacher_rows).flatten(0, 1)
        names = owners.joined.repeat_interleave(teacher_rows.shape[1])
        views = torch.cat([self.bank.keys.to(joined), joined])
        allowed = self.mined(owners)[owners.start : owners.stop].repeat_interleave(teacher_rows.shape[1], dim=0)
        self._waiting = (joined, names)
        return relational_kl(
            similarity_logits(student_rows.flatten(0, 1), views, 1.0),
            similarity_logits(teacher_rows.flatten(0, 1), views, 1.0),
            allowed,
            student_temperature=self.settings.student_temperature,
            teacher_temperature=self.settings.teacher_temperature,
        )

    def mined(self, owners: Owners) -> Tensor:
        """(S, places of the bank + rows of the step) bool: which rows each slice is compared with."""
        names = owners.joined
        rows = len(self.bank.keys) // self.settings.memory
        past = self.bank.candidates(names)
        now = (names[:, None] != names).repeat_interleave(rows, dim=1) & ~past.any(dim=1, keepdim=True)
        return torch.cat([past, now], dim=1)

    def follow(self, step: int) -> None:
        """After a step: the teacher's projector moves, the rows of the last loss enter the bank."""
        self.teacher.update(self.projector, step)
        if self._waiting is not None:
            self.bank.push(*self._waiting)
        self._waiting = None


class Relations(nn.Module):
    """Both relational losses: of whole slices behind the encoder, of patches behind the decoder.

    Args:
        settings: Sizes, temperatures and weight.
        network: Whose maps they read.
    """

    def __init__(self, settings: ArcoSettings, network: UNet) -> None:
        super().__init__()
        self.settings = settings
        widths, axes = network.config.widths, network.config.ndim
        self.whole = InstanceDiscrimination(widths[-1], 1, settings)
        self.local = InstanceDiscrimination(widths[0], settings.patches**axes, settings)
        self.figures: dict[str, Tensor] = {}

    def forward(self, student: Sequence[Tensor], teacher: Sequence[Tensor], slices: Tensor) -> dict[str, Tensor]:
        """Weighted terms ``global`` and ``local``.

        Args:
            student: Maps of this rank's unlabelled slices, the bottleneck's first, the finest last.
            teacher: The same slices in the teacher's view.
            slices: (u,) int64, which they are.
        """
        owners, count = owners_of(slices), self.settings.patches
        terms = {
            "global": self.whole.loss(patches(student[0], 1), patches(teacher[0], 1), owners),
            "local": self.local.loss(patches(student[-1], count), patches(teacher[-1], count), owners),
        }
        self.figures = {f"instance_{name}": term.detach() for name, term in terms.items()}
        return {name: self.settings.instance_weight * term for name, term in terms.items()}

    def follow(self, step: int) -> None:
        """After a step."""
        self.whole.follow(step)
        self.local.follow(step)


def patches(features: Tensor, count: int) -> Tensor:
    """Means over ``count`` patches along each axis of a map (n, channels, *space): (n, patches, channels)."""
    pool = functional.adaptive_avg_pool2d if features.dim() == 4 else functional.adaptive_avg_pool3d
    return pixel_rows(pool(full_precision(features), count))
