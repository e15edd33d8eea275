"""Cross pseudo supervision: two networks, each learns from the other's hard labels."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.nets.unet import UNet, UNetEncoder
from fewlabel.objectives.segmentation import cross_entropy
from fewlabel.regimes.semi_supervised import SemiSettings, SemiSupervised, concat_streams


class CrossPseudoSupervision(SemiSupervised):
    """Cross pseudo supervision (Chen et al., CVPR 2021, arXiv 2106.01226).

    ``L_sup(f₁) + L_sup(f₂) + λ(t) · [CE(f₁(x_u), argmax f₂(x_u)) + CE(f₂(x_u), argmax f₁(x_u))]``; hard labels have no
    gradient. Network 1 predicts. The networks differ by their random weights: all of them from scratch; from a
    pre-trained encoder both encoders start alike and the decoders differ.

    What differs from the paper: hard labels on unlabelled slices alone and λ up to 0.1 with a ramp, as in the code of
    SSL4MIS (the paper: on labelled ones too, λ = 1.5, constant); one optimiser for both networks, whose parameters are
    apart, where the public codes have two.

    Example:
        >>> regime = CrossPseudoSupervision(CrossPseudoSupervision.Config(unlabelled_weight=0.5), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'ce_second', 'dice_second', 'cross', 'cross_second']
    """

    class Config(SemiSettings):
        """Settings of cross pseudo supervision."""

        name: str = "cps"
        unlabelled_weight: float = setting(
            0.1, "largest weight λ of the hard labels; 0 is supervised training of one network", ge=0, source="SSL4MIS"
        )

    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Chen et al., CVPR 2021, arXiv 2106.01226"

    def __init__(self, config: Config, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self.second = UNet(network.config, network.classes)
        if pretrained:
            self.second.encoder.load_state_dict(network.encoder.state_dict())

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``cross`` of network 1, and with ``_second`` of network 2."""
        images, count = concat_streams(batch, unlabelled), len(batch.images)
        with self.streams(count, len(unlabelled)):
            first, second = self.network(images), self.second(images)
        ours, theirs = first[count:].detach().argmax(dim=1), second[count:].detach().argmax(dim=1)
        self.log(agreement=(ours == theirs).float().mean())
        return {
            **self.both_supervised(first[:count], second[:count], batch.labels),
            "cross": weight * cross_entropy(first[count:], theirs),
            "cross_second": weight * cross_entropy(second[count:], ours),
        }

    def labelled_terms(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """Both networks supervised, while λ rests; with ``unlabelled_weight=0`` network 1 alone."""
        if self.settings.unlabelled_weight == 0:
            return super().labelled_terms(batch)
        return self.both_supervised(self.network(batch.images), self.second(batch.images), batch.labels)

    def both_supervised(self, first: Tensor, second: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Supervised terms of either network's logits."""
        other = self.supervision(second, labels)
        return {**self.supervision(first, labels), **{f"{name}_second": term for name, term in other.items()}}

    def encoders(self) -> tuple[UNetEncoder, ...]:
        """Both."""
        return (self.network.encoder, self.second.encoder)

    def further_classifiers(self) -> tuple[nn.Module, ...]:
        """That of network 2."""
        return (self.second.classifier,)
