"""What regimes with a head for signed distances share: the head, its supervision, and their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet
from fewlabel.objectives.sdf import signed_distances
from fewlabel.objectives.segmentation import IGNORE
from fewlabel.objectives.semi_supervised_loss_parts import masked_mean, squared_difference
from fewlabel.regimes.semi_supervised import SemiSettings, SemiSupervised


class ShapeSettings(SemiSettings):
    """Settings of regimes with a head for signed distances."""

    sdf_weight: float = setting(
        0.3, "weight of the squared error of signed distances; 0: the head is not supervised", ge=0, source="DTC"
    )


class ShapeAware(SemiSupervised):
    """A regime whose network also gives one signed distance function per foreground class, by a 1x1 head with tanh.

    The head sits on the last decoder map, beside the classifier. Its target is computed from the labels of each slice
    or patch, its error is taken over labelled pixels. With ``unlabelled_weight`` and ``sdf_weight`` 0 it is untouched.
    """

    supports_3d: ClassVar[bool] = True
    supervised_when: ClassVar[Mapping[str, Any]] = {"unlabelled_weight": 0.0, "sdf_weight": 0.0}

    def __init__(self, config: ShapeSettings, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self.sdf_weight = config.sdf_weight
        conv = nn.Conv2d if network.config.ndim == 2 else nn.Conv3d
        self.distance_head = conv(network.config.width, network.classes - 1, 1)

    def segment(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, classes, *space) and signed distances (n, classes - 1, *space) in (-1, 1), full precision."""
        features = self.network.decoder(self.network.encoder(images))[-1]
        distances = torch.tanh(full_precision(self.distance_head(features)))
        return self.network.classifier(features), distances

    def labelled_terms(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Supervision with signed distances, or that of ``supervised`` where they have no weight."""
        if self.sdf_weight == 0:
            return super().labelled_terms(batch)
        return self.shape_supervision(*self.segment(batch.images), batch.labels)

    def shape_supervision(self, logits: Tensor, distances: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``sdf``, the weighted mean squared error over classes and labelled pixels."""
        terms = self.supervision(logits, labels)
        if self.sdf_weight:
            target = signed_distances(labels, logits.shape[1]).to(distances)
            known = (labels != IGNORE)[:, None]
            terms["sdf"] = self.sdf_weight * masked_mean(squared_difference(distances, target), known)
        return terms
