"""SS-Net: predictions that small changes of the image do not move, and pixels near prototypes of their class."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.side_effect_free import preserve_buffers
from fewlabel.nets.unet import UNet
from fewlabel.objectives.batch_noise_and_turns import gaussian_noise
from fewlabel.objectives.semi_supervised_loss_parts import probabilities
from fewlabel.objectives.vat import dice_distance, worst_direction
from fewlabel.regimes.semi_supervised import SemiSettings, SemiSupervised, concat_streams
from fewlabel.regimes.ss_net_prototypes import Prototypes


class SmoothAndSeparate(SemiSupervised):
    """SS-Net (Wu et al., MICCAI 2022, arXiv 2208.01355).

    ``L_sup + λ(t) · [V + 0.1 · (P(l) + P(u))]`` with

    * V: soft-Dice distance of the predictions for x and for x + ε d, d the direction of largest change, found by one
      power iteration (``objectives.vat``), over labelled and unlabelled slices; the first is a target;
    * P: mean cosine distance of pixel embeddings, behind a projection and a prediction head, to a memory of their
      class, both sides weighted by learnt attention (``objectives.class_prototype_memory``); classes are labels, or
      arg-max.

    The memory holds for each foreground class the projections of labelled pixels that were predicted correctly and
    score highest. It is written after the step, so at the first step P is 0.

    What differs from the public code: there the memory keeps the lowest scores, against the paper; its ξ = 10 and
    ε = 6 are lengths over a whole slice in [0, 1], ours root mean squares per pixel, so they do not depend on the
    size. The target of V is the prediction of the main pass (there: of a pass of its own), and all further passes leave
    the running statistics of batch normalisation alone. Heads have no batch normalisation. P looks at some pixels of
    each class and slice, weighted to stand for all. Supervision is cross-entropy and Dice (there: Dice;
    ``ce_weight=0`` is that).

    Example:
        >>> regime = SmoothAndSeparate(SmoothAndSeparate.Config(memory=8), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'smooth', 'compact']
    """

    class Config(SemiSettings):
        """Settings of SS-Net."""

        name: str = "ss_net"
        probe: float = setting(
            1 / 6,
            "ξ, size of the step at which the direction is found",
            unit="standard deviations of the slice",
            gt=0,
            source="SS-Net: 10/6 of ε",
        )
        epsilon: float = setting(
            0.1,
            "ε, size of the change",
            unit="standard deviations of the slice",
            ge=0,
            source="SS-Net: 6 over 256x256 pixels in [0, 1], about this",
        )
        prototype_weight: float = setting(0.1, "weight of P beside V; 0: no prototypes", ge=0, source="SS-Net")
        memory: int = setting(32, "embeddings in the memory of a class", ge=1, source="SS-Net")
        embedding: int = setting(32, "size of an embedding", ge=1, source="own choice; SS-Net: width of its decoder")
        pixels: int = setting(
            256, "pixels of a class that are looked at in each slice", ge=1, source="own choice; SS-Net: all"
        )

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Wu et al., MICCAI 2022, arXiv 2208.01355"

    def __init__(self, config: Config, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self.prototypes = Prototypes(
            network.config.width, network.classes, config.embedding, config.memory, config.pixels
        )

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice``, ``smooth``, and with prototypes ``compact``."""
        images, count = concat_streams(batch, unlabelled), len(batch.images)
        with self.streams(count, len(unlabelled)):
            features = self.network.decoder(self.network.encoder(images))[-1]
        logits = self.network.classifier(features)
        # Drawn for each stream: joined batches hold all labelled slices first, whatever the number of processes.
        start = torch.cat(
            [gaussian_noise(rows, 1.0, torch.inf, batch.generator) for rows in (batch.images, unlabelled)]
        )
        with self.streams(count, len(unlabelled)):
            smooth = self.smoothness(images, probabilities(logits).detach(), start)
        terms = {**self.supervision(logits[:count], batch.labels), "smooth": weight * smooth}
        self.log(smooth=smooth)
        if self.settings.prototype_weight:
            classes = logits.detach().argmax(dim=1)
            known = self.prototypes.distance(features[:count], batch.labels, batch.generator, predicted=classes[:count])
            guessed = self.prototypes.distance(features[count:], classes[count:], batch.generator)
            terms["compact"] = weight * self.settings.prototype_weight * (known + guessed)
            self.log(compact=known + guessed, memory=self.prototypes.memory.filled.sum())
        return terms

    def smoothness(self, images: Tensor, target: Tensor, start: Tensor) -> Tensor:
        """V: how far the worst change of size ε moves the prediction; running statistics stay.

        Args:
            images: (n, channels, *space).
            target: (n, classes, *space) probabilities for them, without gradient.
            start: Random directions, the shape of the images.
        """
        with preserve_buffers(self.network):
            direction = worst_direction(self._predict, images, target, start, self.settings.probe)
            return dice_distance(self._predict(images + self.settings.epsilon * direction), target)

    def _predict(self, images: Tensor) -> Tensor:
        return probabilities(self.network(images))

    def undecayed(self) -> tuple[nn.Module, ...]:
        """Heads and attention: λ · 0.1 leaves them gradients far below a decay of 1e-5."""
        return (self.prototypes,)

    def after_step(self, step: int, total_steps: int) -> None:  # noqa: ARG002
        """The memory takes in what the step found."""
        self.prototypes.remember()
