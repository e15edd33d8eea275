"""The supervised loss that all regimes share, with its settings."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from torch import Tensor

from fewlabel.core.settings.base import setting
from fewlabel.objectives.segmentation import cross_entropy, soft_dice_loss
from fewlabel.regimes.base import Regime


class SupervisedSettings(Regime.Config):
    """Settings of cross-entropy plus soft Dice."""

    ce_weight: float = setting(1.0, "weight of cross-entropy", ge=0, source="nnU-Net")
    dice_weight: float = setting(1.0, "weight of soft Dice", ge=0, source="nnU-Net")
    dice_per_batch: bool = setting(True, "Dice over the whole batch; false: per slice", source="own choice")
    dice_background: bool = setting(False, "count the background in Dice", source="nnU-Net")
    dice_smooth: float = setting(1.0, "added above and below the Dice ratio", unit="pixels", gt=0)

    @model_validator(mode="after")
    def _something_to_minimise(self) -> Self:
        if self.ce_weight == 0 and self.dice_weight == 0:
            raise ValueError("ce_weight and dice_weight must not both be 0")
        return self


def supervised_terms(settings: SupervisedSettings, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Weighted terms ``ce`` and ``dice``; one with weight 0 is not computed.

    Args:
        settings: Weights.
        logits: (n, classes, *space).
        labels: (n, *space) int64; 255 is ignored.
    """
    terms = {}
    if settings.ce_weight:
        terms["ce"] = settings.ce_weight * cross_entropy(logits, labels)
    if settings.dice_weight:
        terms["dice"] = settings.dice_weight * soft_dice_loss(
            logits,
            labels,
            batch=settings.dice_per_batch,
            background=settings.dice_background,
            smooth=settings.dice_smooth,
        )
    return terms
