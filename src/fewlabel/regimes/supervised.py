"""Training on labelled slices alone."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import model_validator
from torch import Tensor

from fewlabel.core.config import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet
from fewlabel.objectives.segmentation import cross_entropy, soft_dice_loss
from fewlabel.regimes.base import Regime


class Supervised(Regime):
    """Cross-entropy plus soft Dice on the labelled slices (the compound loss of nnU-Net).

    Loss = ce_weight · CE + dice_weight · (1 - Dice), after Isensee et al., Nature Methods 2021, with Dice of
    Milletari et al., 3DV 2016. It differs from nnU-Net's in that Dice is summed over the batch and classes that a
    batch lacks are left out, which one or two annotated patients need. It is also the fine-tuning of GCL, whose
    paper does not state its loss.
    """

    class Config(Regime.Config):
        """Settings of the supervised regime."""

        name: str = "supervised"
        ce_weight: float = setting(1.0, "weight of cross-entropy", ge=0, source="nnU-Net")
        dice_weight: float = setting(1.0, "weight of soft Dice", ge=0, source="nnU-Net")
        label_smoothing: float = setting(
            0.0, "share of the cross-entropy target spread over all classes", ge=0, lt=1, source="off"
        )
        dice_per_batch: bool = setting(True, "Dice over the whole batch; false: per slice", source="own choice")
        dice_background: bool = setting(False, "count the background in Dice", source="nnU-Net")
        dice_smooth: float = setting(1.0, "added above and below the Dice ratio", unit="pixels", gt=0)

        @model_validator(mode="after")
        def _something_to_minimise(self) -> Self:
            if self.ce_weight == 0 and self.dice_weight == 0:
                raise ValueError("ce_weight and dice_weight must not both be 0")
            return self

    paper: ClassVar[str] = "Isensee et al., Nature Methods 2021 (loss); Milletari et al., 3DV 2016 (Dice)"

    def __init__(self, config: Config, network: UNet) -> None:
        super().__init__(config, network)
        self.settings = config

    def losses(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Weighted terms ``ce`` and ``dice``; one with weight 0 is not computed."""
        settings = self.settings
        logits = self.network(batch.images)
        terms = {}
        if settings.ce_weight:
            terms["ce"] = settings.ce_weight * cross_entropy(logits, batch.labels, smoothing=settings.label_smoothing)
        if settings.dice_weight:
            terms["dice"] = settings.dice_weight * soft_dice_loss(
                logits,
                batch.labels,
                batch=settings.dice_per_batch,
                background=settings.dice_background,
                smooth=settings.dice_smooth,
            )
        return terms
