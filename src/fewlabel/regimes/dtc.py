"""DTC: a segmentation and a signed distance function, predicted by two heads, must describe the same shape."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.objectives.sdf import soft_mask
from fewlabel.objectives.semi_supervised_loss_parts import probabilities, squared_difference
from fewlabel.regimes.semi_supervised import concat_streams
from fewlabel.regimes.signed_distance_head import ShapeAware, ShapeSettings


class DualTask(ShapeAware):
    """Dual-task consistency (Luo et al., AAAI 2021, arXiv 2009.04448).

    With z = tanh of a second head, K(z) = sigmoid(-1500 z) and p the probabilities:
    ``L_sup + 0.3 · mean (z - SDF(y))² + λ(t) · mean (K(z) - p)²``, the last over the pixels and foreground classes of
    labelled and unlabelled slices. Both heads have a gradient.

    What differs from the public code, which knows one structure: one signed distance function per foreground class,
    per slice or patch; of a class that is absent it is +1 everywhere (there 0, a boundary everywhere), see
    ``objectives.sdf``. Supervision is cross-entropy and Dice (there: Dice; ``ce_weight=0`` is that).

    Example:
        >>> regime = DualTask(DualTask.Config(sdf_weight=0.5), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'sdf', 'consistency']
    """

    class Config(ShapeSettings):
        """Settings of DTC."""

        name: str = "dtc"
        unlabelled_weight: float = setting(
            1.0, "largest weight λ of the agreement of both heads; 0 leaves supervision alone", ge=0, source="DTC"
        )
        steepness: float = setting(1500.0, "k of K(z) = sigmoid(-k z)", gt=0, source="DTC")

    settings: Config
    paper: ClassVar[str] = "Luo et al., AAAI 2021, arXiv 2009.04448"

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice``, ``sdf`` and ``consistency``."""
        count = len(batch.images)
        with self.streams(count, len(unlabelled)):
            logits, distances = self.segment(concat_streams(batch, unlabelled))
        masks = soft_mask(distances, self.settings.steepness)
        distance = squared_difference(masks, probabilities(logits)[:, 1:]).mean()
        self.log(consistency=distance)
        supervised = self.shape_supervision(logits[:count], distances[:count], batch.labels)
        return {**supervised, "consistency": weight * distance}
