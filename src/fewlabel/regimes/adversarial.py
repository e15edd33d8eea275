"""Adversarial training: predictions for unlabelled slices must look like those for labelled ones."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet
from fewlabel.objectives.semi_supervised_loss_parts import probabilities
from fewlabel.regimes.adversary import Adversary, AdversarySettings
from fewlabel.regimes.semi_supervised import SemiSupervised, concat_streams


class AdversarialTraining(SemiSupervised):
    """Deep adversarial network, DAN (Zhang et al., MICCAI 2017), the "Adv. Training" of GCL's and SPL's tables.

    A discriminator D sees class probabilities and the image. The segmentation network S minimises
    ``L_sup + λ(t) · CE(D(S(u), u), labelled)``; then D's own step, by its own Adam, minimises
    ``CE(D(S(l), l), labelled) + CE(D(S(u), u), unlabelled)``. "Real" are predictions for labelled slices, no labels.

    What differs from the public code of SSL4MIS: D ends with a mean over its last map (there a fixed pooling that pins
    slices to 256x256); D learns from the very predictions of S's step, where there S predicts anew in eval mode;
    S never drops D's channels, as there. SPL's comparison has a D without the image (``discriminator_image=false``)
    and a constant λ from a grid (``ramp=0``).

    Example:
        >>> regime = AdversarialTraining(AdversarialTraining.Config(discriminator_width=8), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'adversarial']
    """

    class Config(AdversarySettings):
        """Settings of adversarial training."""

        name: str = "adversarial"
        unlabelled_weight: float = setting(
            0.1, "largest weight λ of fooling the discriminator; 0 is supervised training", ge=0, source="SSL4MIS"
        )

    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Zhang et al., MICCAI 2017"

    def __init__(self, config: Config, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        shape = network.config
        self.adversary = Adversary(network.classes, shape.in_channels, shape.ndim, config)

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``adversarial``."""
        images, count = concat_streams(batch, unlabelled), len(batch.images)
        with self.streams(count, len(unlabelled)):
            logits = self.network(images)
        maps = probabilities(logits)
        cost, fooled = self.adversary.fooling(maps[count:], unlabelled)
        self.adversary.keep(maps, images, count, batch.generator)
        self.log(adversarial=cost, fooled=fooled)
        return {**self.supervision(logits[:count], batch.labels), "adversarial": weight * cost}

    def after_step(self, step: int, total_steps: int) -> None:  # noqa: ARG002
        """The discriminator's own step."""
        self.adversary.learn()
