"""SASSNet: predicted signed distances of unlabelled slices must look like those of labelled ones."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet
from fewlabel.regimes.adversary import Adversary, AdversarySettings
from fewlabel.regimes.semi_supervised import concat_streams
from fewlabel.regimes.signed_distance_head import ShapeAware, ShapeSettings


class ShapeAdversarial(ShapeAware):
    """Shape-aware semi-supervised segmentation, SASSNet (Li et al., MICCAI 2020, arXiv 2007.10732).

    A second head gives signed distances z, as in ``dtc``; a discriminator D sees z and the image:
    ``L_sup + 0.3 · mean (z - SDF(y))² + λ(t) · CE(D(z_u, u), labelled)``, and D's own step as in ``adversarial``. With
    λ = 0 this is supervision with signed distances.

    What differs from the public code, which knows one structure in volumes: one signed distance function per
    foreground class, per slice or patch, +1 where the class is absent (there 0); D ends with a mean over its last map,
    and learns from the very predictions of the network's step (there: predicted anew in eval mode).

    Example:
        >>> regime = ShapeAdversarial(ShapeAdversarial.Config(discriminator_width=8), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'sdf', 'adversarial']
    """

    class Config(ShapeSettings, AdversarySettings):
        """Settings of SASSNet."""

        name: str = "sassnet"
        unlabelled_weight: float = setting(
            0.01, "largest weight λ of fooling the discriminator; 0 leaves supervision alone", ge=0, source="SASSNet"
        )

    paper: ClassVar[str] = "Li et al., MICCAI 2020, arXiv 2007.10732"

    def __init__(self, config: Config, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        shape = network.config
        self.adversary = Adversary(network.classes - 1, shape.in_channels, shape.ndim, config)

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice``, ``sdf`` and ``adversarial``."""
        images, count = concat_streams(batch, unlabelled), len(batch.images)
        with self.streams(count, len(unlabelled)):
            logits, distances = self.segment(images)
        cost, fooled = self.adversary.fooling(distances[count:], unlabelled)
        self.adversary.keep(distances, images, count, batch.generator)
        self.log(adversarial=cost, fooled=fooled)
        supervised = self.shape_supervision(logits[:count], distances[:count], batch.labels)
        return {**supervised, "adversarial": weight * cost}

    def after_step(self, step: int, total_steps: int) -> None:  # noqa: ARG002
        """The discriminator's own step."""
        self.adversary.learn()
