"""Rotation consistency: the prediction for a turned slice is the turned prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Generator, Tensor

from fewlabel.core.collective import world_size
from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNetConfig
from fewlabel.objectives.batch_noise_and_turns import own_part, quarter_turns
from fewlabel.objectives.semi_supervised_loss_parts import probabilities, squared_difference
from fewlabel.regimes.semi_supervised import SemiSettings, SemiSupervised


class RotationConsistency(SemiSupervised):
    """Agreement under turns by 90 degrees, as in the code that SSL4MIS (Luo et al., 2020) names deep co-training.

    ``L_sup + λ(t) · ½ [ mean (sg(p(Ru)) - R p(u))² + mean (p(Ru) - R sg(p(u)))² ]`` over pixels and classes, with
    p = σ(f), R a turn of each slice in its plane and sg a stop of the gradient: both sides move half way.

    This is what tables of SSL4MIS and ARCO call DCT (an alias would be ``dct_ssl4mis``). Deep co-training of Qiao et
    al., ECCV 2018, has two networks and adversarial examples and is something else.

    What differs from the public code: the turn is drawn for each slice and is never 0, which would teach nothing
    (there: one turn of 0 to 3 for the batch); turned and upright slices share one pass, so batch normalisation treats
    both alike. Quarter turns need slices whose sides are equal; others are turned by 180 degrees.

    Example:
        >>> regime = RotationConsistency(RotationConsistency.Config(unlabelled_weight=0.2), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'consistency']
    """

    class Config(SemiSettings):
        """Settings of rotation consistency."""

        name: str = "rot_consistency"
        turns: Literal["auto", "quarter", "half"] = setting(
            "auto",
            "turns by 90, 180 and 270 degrees, or by 180 alone; auto: by 180 alone where the sides of slices differ",
            source="SSL4MIS: quarter",
        )

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Luo et al., SSL4MIS, 2020 (there named deep co-training)"

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, size: Sequence[int] | None = None) -> list[Fault]:  # noqa: ARG003
        """Quarter turns of slices whose sides differ."""
        if size is None or size[-2] == size[-1] or config.turns != "quarter" or config.unlabelled_weight == 0:
            return []
        height, width = size[-2:]
        remedy = f"Prepare with size=[{max(height, width)}, {max(height, width)}], or give regime.turns=half"
        return [Fault(f"quarter needs slices with equal sides, not {height}x{width}", "regime.turns", remedy)]

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``consistency``.

        Raises:
            SettingsError: For quarter turns of slices whose sides differ.
        """
        self.refuse(unlabelled.shape[2:])
        height, width = unlabelled.shape[-2:]
        count = len(unlabelled)
        turns = self.draw_turns(count, batch.generator) if height == width else [2] * count
        labelled = len(batch.images)
        with self.streams(labelled, 2 * count):
            logits = self.network(torch.cat([batch.images, unlabelled, quarter_turns(unlabelled, turns)]))
        known, upright, turned = logits.split([labelled, count, count])
        first, second = quarter_turns(probabilities(upright), turns), probabilities(turned)
        distance = (
            squared_difference(first, second.detach()).mean() + squared_difference(first.detach(), second).mean()
        ) / 2
        self.log(consistency=distance)
        return {**self.supervision(known, batch.labels), "consistency": weight * distance}

    def draw_turns(self, count: int, generator: Generator) -> list[int]:
        """Quarter turns, 1 to 3, of each of this rank's rows."""
        if self.settings.turns == "half":
            return [2] * count
        return [int(turn) for turn in own_part(torch.randint(1, 4, (count * world_size(),), generator=generator))]
