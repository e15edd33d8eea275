"""Cross-consistency training: decoders that see spoilt maps must agree with the one that sees them whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Generator, Tensor, nn

from fewlabel.nets.auxiliary_decoders import Branch
from fewlabel.nets.unet import UNet
from fewlabel.objectives.semi_supervised_loss_parts import probabilities, squared_difference
from fewlabel.regimes.auxiliary_prediction_regime import Auxiliary
from fewlabel.regimes.feature_perturbation_settings import WAYS, FeaturePerturbationSettings, perturb_features


class CrossConsistency(Auxiliary):
    """Cross-consistency training (Ouali et al., CVPR 2020, arXiv 2003.09005).

    Three auxiliary decoders see the encoder's maps, of all levels, with noise, with pixels of high activity dropped,
    and with channels dropped: ``L_sup + λ(t)/3 · Σ_k mean (sg(p_main(x_u)) - p_k(x_u))²`` over pixels and classes. The
    main prediction is a target without gradient (sg), and the only one that is kept.

    What differs from the public code of SSL4MIS: there the target has a gradient, against the paper; changes are drawn
    for each slice, there once for the batch. As there, and unlike the paper, all four predictions are supervised;
    ``auxiliary_weight=0`` supervises the main one alone. The paper has more decoders, of seven kinds.

    Example:
        >>> regime = CrossConsistency(CrossConsistency.Config(feature_noise=0.1), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'consistency']
    """

    class Config(FeaturePerturbationSettings):
        """Settings of cross-consistency training."""

        name: str = "cct"

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Ouali et al., CVPR 2020, arXiv 2003.09005"

    def __init__(self, config: Config, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        self.branches = nn.ModuleList(Branch(network.config, network.classes) for _ in WAYS)

    def further_classifiers(self) -> tuple[nn.Module, ...]:
        """Those of the auxiliary decoders."""
        return tuple(branch.get_submodule("classifier") for branch in self.branches)

    def distance(self, main: Tensor, others: Sequence[Tensor], count: int) -> Tensor:
        """Mean squared distance of the auxiliary predictions from the main one."""
        target = probabilities(main[count:]).detach()
        return torch.stack(
            [squared_difference(target, probabilities(logits[count:])).mean() for logits in others]
        ).mean()

    def predictions(self, images: Tensor, parts: Sequence[int], generator: Generator) -> tuple[Tensor, list[Tensor]]:
        """Logits of the main decoder, and of those that see spoilt maps."""
        maps = self.network.encoder(images)
        main = self.network.classifier(self.network.decoder(maps)[-1])
        others = [
            branch([perturb_features(features, way, parts, self.settings, generator) for features in maps])
            for branch, way in zip(self.branches, WAYS, strict=True)
        ]
        return main, others
