"""Training on labelled slices alone."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewlabel.data.batch import SegmentationBatch
from fewlabel.regimes.base import Regime
from fewlabel.regimes.supervised_loss import SupervisedSettings, supervised_terms


class Supervised(Regime):
    """Cross-entropy plus soft Dice on the labelled slices (the compound loss of nnU-Net).

    Loss = ce_weight · CE + dice_weight · (1 - Dice), after Isensee et al., Nature Methods 2021, with Dice of
    Milletari et al., 3DV 2016. It differs from nnU-Net's in that Dice is summed over the batch and classes that a
    batch lacks are left out, which one or two annotated patients need. It is also the fine-tuning of GCL, whose
    paper does not state its loss.

    Example:
        >>> regime = Supervised(Supervised.Config(dice_weight=0.5), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice']
    """

    class Config(SupervisedSettings):
        """Settings of the supervised regime."""

        name: str = "supervised"

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Isensee et al., Nature Methods 2021 (loss); Milletari et al., 3DV 2016 (Dice)"

    def losses(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Weighted terms ``ce`` and ``dice``; one with weight 0 is not computed."""
        return supervised_terms(self.settings, self.network(batch.images), batch.labels)
