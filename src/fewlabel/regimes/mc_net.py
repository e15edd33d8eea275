"""MC-Net: two decoders that up-sample in different ways must agree with each other's sharpened prediction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from fewlabel.core.full_precision import full_precision
from fewlabel.core.settings.base import setting
from fewlabel.nets.auxiliary_decoders import Branch
from fewlabel.nets.unet import UNet
from fewlabel.objectives.semi_supervised_loss_parts import probabilities, squared_difference
from fewlabel.regimes.auxiliary_prediction_regime import Auxiliary, AuxiliarySettings


class MutualConsistency(Auxiliary):
    """MC-Net (Wu et al., MICCAI 2021, arXiv 2103.02911).

    One encoder, a decoder with transposed convolutions and one with linear interpolation:
    ``L_sup + λ(t) · Σ_{i≠j} mean (p_i - sg(sharp(p_j)))²`` over pixels and classes of labelled and unlabelled slices,
    with ``sharp(p) = p^{1/T} / Σ_c p^{1/T}``. The decoder with transposed convolutions is kept.

    What differs from the public code: sharpened predictions are targets and have no gradient (sg), as the paper's name
    of soft pseudo labels asks for; there they carry the graph. Classes are sharpened together (there, in 2D, each
    against the sum of all others). Supervision is the mean of both decoders' cross-entropy and Dice (there: the sum of
    Dice alone). sharp is computed as softmax(logits / T), exact where powers of small probabilities are 0.

    Example:
        >>> regime = MutualConsistency(MutualConsistency.Config(temperature=0.5), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'consistency']
    """

    class Config(AuxiliarySettings):
        """Settings of MC-Net."""

        name: str = "mc_net"
        temperature: float = setting(0.1, "T; 1 leaves a prediction as it is", gt=0, source="MC-Net")

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Wu et al., MICCAI 2021, arXiv 2103.02911"

    def __init__(self, config: Config, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self.branch = Branch(network.config, network.classes, "linear")

    def further_classifiers(self) -> tuple[nn.Module, ...]:
        """That of the second decoder."""
        return (self.branch.classifier,)

    def distance(self, main: Tensor, others: Sequence[Tensor], count: int) -> Tensor:  # noqa: ARG002
        """Of either decoder's prediction from the other's, over labelled and unlabelled slices."""
        return mutual_distance(main, others[0], self.settings.temperature)

    def predictions(self, images: Tensor, parts: Sequence[int], generator: Generator) -> tuple[Tensor, list[Tensor]]:  # noqa: ARG002
        """Logits of either decoder."""
        maps = self.network.encoder(images)
        return self.network.classifier(self.network.decoder(maps)[-1]), [self.branch(maps)]


def sharpened(logits: Tensor, temperature: float) -> Tensor:
    """p^{1/T} / Σ_c p^{1/T} with p = softmax(logits) over axis 1, which is softmax(logits / T)."""
    return probabilities(full_precision(logits) / temperature)


def mutual_distance(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """Mean squared distance of either prediction from the other one sharpened, which has no gradient; summed.

    Args:
        first: Logits (n, classes, *space).
        second: Logits of the same pixels.
        temperature: T.
    """
    pairs = ((first, second), (second, first))
    return torch.stack(
        [squared_difference(probabilities(one), sharpened(other, temperature).detach()).mean() for one, other in pairs]
    ).sum()
