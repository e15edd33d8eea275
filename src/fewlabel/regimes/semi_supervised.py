"""What semi-supervised regimes share: two streams of slices, and a weight that grows over the run."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet
from fewlabel.objectives.semi_supervised_loss_parts import ramp_up
from fewlabel.regimes.base import Regime
from fewlabel.regimes.stream_statistics import StreamSettings, streams
from fewlabel.regimes.supervised_loss import supervised_terms


class SemiSettings(StreamSettings):
    """Settings of regimes with a weighted unlabelled part."""

    unlabelled_weight: float = setting(
        0.1,
        "largest weight λ of the unlabelled part; 0 leaves it out",
        ge=0,
        source="SSL4MIS, beside half of cross-entropy and Dice; here beside their sum",
    )
    ramp: float = setting(
        1.0,
        "share of the run, from its start, over which λ grows by exp(-5 (1 - t)²); 0 for a constant λ",
        ge=0,
        le=1,
        source="SSL4MIS: 30000 of 30000 iterations",
    )
    rest: float = setting(0.0, "share of the run, from its start, in which λ is 0", ge=0, lt=1, source="off")


class SemiSupervised(Regime):
    """A regime with labelled and unlabelled slices.

    One policy for all of them:

    * **Streams.** Where the unlabelled part counts, labelled and unlabelled slices go through the network in one pass
      in which batch normalisation treats each stream by its own statistics (:meth:`streams`); running statistics take
      in both. Public codes share the statistics. With one or two labelled patients the supervised loss then shapes the
      unlabelled activations through them: it falls faster, and predictions for all other patients become flat
      (decision 0008). ``joint=true`` is what they do. Where the weight is 0 at a step, or the batch has no unlabelled
      slice, nothing of that part is computed: with the settings of ``supervised_when`` (``unlabelled_weight=0``, in
      some more) the run is supervised training, bit by bit.
    * **Ramps.** λ(t) = ``unlabelled_weight`` · exp(-5 (1 - min(t/(``ramp``·T), 1))²), and 0 during ``rest``.
    * **Teachers** are those of ``fewlabel.regimes.teacher``.

    Children implement :meth:`joint_terms`, and :meth:`labelled_terms` where their supervision is their own.
    """

    settings: SemiSettings
    uses_unlabelled: ClassVar[bool] = True
    supervised_when: ClassVar[Mapping[str, Any]] = {"unlabelled_weight": 0.0}

    def __init__(self, config: SemiSettings, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self._weight = 0.0
        #: Whether the unlabelled part was computed in the last step.
        self.joined = False
        self._metrics: dict[str, Tensor | float] = {}

    def losses(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Supervised terms, and the weighted unlabelled ones where they count."""
        self._metrics = {}
        self._weight = self.weight(batch.step, batch.total_steps)
        self.joined = self._weight > 0 and batch.unlabelled is not None and len(batch.unlabelled) > 0
        if not self.joined or batch.unlabelled is None:
            return self.labelled_terms(batch)
        return self.joint_terms(batch, batch.unlabelled, self._weight)

    @abstractmethod
    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """Terms of a step whose unlabelled part counts.

        Args:
            batch: The batch; there may be no labelled row.
            unlabelled: (u, channels, *space), u > 0.
            weight: λ > 0 of this step.
        """

    def labelled_terms(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Terms of a step without unlabelled part: those of ``supervised``."""
        return self.supervision(self.network(batch.images), batch.labels)

    def streams(self, *rows: int) -> AbstractContextManager[None]:
        """Around a pass of labelled and unlabelled rows, whose numbers are given in order."""
        return streams(self.settings, self, *rows)

    def weight(self, step: int, total_steps: int) -> float:
        """λ at a step."""
        settings = self.settings
        if step < resting_steps(settings.rest, total_steps):
            return 0.0
        return settings.unlabelled_weight * ramp_up(step, settings.ramp * total_steps)

    def supervision(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``ce`` and ``dice`` of logits (n, classes, *space)."""
        return supervised_terms(self.settings, logits, labels)

    def metrics(self) -> dict[str, float]:
        """λ, and what :meth:`log` was given."""
        return {"unlabelled_weight": self._weight, **{name: float(value) for name, value in self._metrics.items()}}

    def log(self, **values: Tensor | float) -> None:
        """Keep figures of this step for the log; tensors are read on logged steps only."""
        self._metrics.update(
            {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}
        )


def resting_steps(share: float, total_steps: int) -> int:
    """Steps from the start of a run in which the unlabelled part rests, rounded up: 55 of 100 for a share of 0.55."""
    # 0.55 * 100 is a little more than 55.
    return math.ceil(round(share * total_steps, 6))


def two_phases(first: int, total_steps: int) -> tuple[int, ...]:
    """Lengths of a first phase of so many steps and of the rest of the run, without one of no step."""
    return tuple(length for length in (first, total_steps - first) if length)


def concat_streams(batch: SegmentationBatch, unlabelled: Tensor) -> Tensor:
    """Labelled rows, then unlabelled ones: (n + u, channels, *space)."""
    return torch.cat([batch.images, unlabelled])
