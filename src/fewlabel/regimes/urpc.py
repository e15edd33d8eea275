"""URPC: predictions at several scales of one decoder must agree where they are sure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Generator, Tensor, nn
from torch.nn import functional

from fewlabel.core.errors import Fault
from fewlabel.core.settings.base import setting
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.objectives.semi_supervised_loss_parts import log_probabilities
from fewlabel.objectives.uncertainty_rectified_consistency import rectified_consistency
from fewlabel.regimes.auxiliary_prediction_regime import Auxiliary
from fewlabel.regimes.feature_perturbation_settings import WAYS, FeaturePerturbationSettings, perturb_features


class PyramidConsistency(Auxiliary):
    """Uncertainty-rectified pyramid consistency (Luo et al., MICCAI 2021, arXiv 2012.07042).

    The decoder's maps at strides 2, 4 and 8 have classifiers of their own; with p̄ the mean of the S predictions at
    full size and D_s = KL(p̄ ‖ p_s) at each pixel,
    ``L_sup + λ(t) · mean_s [Σ (p_s - p̄)² e^{-D_s} / Σ e^{-D_s} + mean D_s]``
    (``objectives.uncertainty_rectified_consistency``). Supervision is the mean over scales. The maps of
    coarser scales are spoilt: noise at stride 2, pixels of high activity dropped at 4, channels dropped at 8. The
    full-size prediction, whole, is the one that is kept.

    What differs from the public code of SSL4MIS: coarse logits are interpolated linearly (there: nearest neighbour);
    logarithms come from log-softmax (there: log of probabilities that may be 0); changes are drawn for each slice.
    ``feature_noise=0 feature_drop=0 active_low=2 active_high=2`` spoils nothing.

    Example:
        >>> regime = PyramidConsistency(PyramidConsistency.Config(scales=2), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'consistency']
    """

    class Config(FeaturePerturbationSettings):
        """Settings of URPC."""

        name: str = "urpc"
        scales: int = setting(
            4, "predictions S, the full-size one included; at most one for each decoder block", ge=2, source="URPC"
        )

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Luo et al., MICCAI 2021, arXiv 2012.07042"

    @classmethod
    def faults(cls, config: Any, network: UNetConfig, size: Sequence[int] | None = None) -> list[Fault]:  # noqa: ARG003
        """A network too flat for a pyramid."""
        if network.depth >= 3:
            return []
        problem = f"must be at least 3 for the pyramid of urpc, not {network.depth}"
        return [Fault(problem, "network.depth", "Give network.depth=3")]

    def __init__(self, config: Config, network: UNet, *, pretrained: bool = False) -> None:
        super().__init__(config, network, pretrained=pretrained)
        architecture = network.config
        coarser = min(config.scales, architecture.depth - 1) - 1
        conv = nn.Conv2d if architecture.ndim == 2 else nn.Conv3d
        #: Finest first: strides 2, 4, 8 and so on.
        self.classifiers = nn.ModuleList(
            conv(width, network.classes, 1) for width in architecture.widths[1 : coarser + 1]
        )

    def further_classifiers(self) -> tuple[nn.Module, ...]:
        """Those of the coarser scales."""
        return tuple(self.classifiers)

    def distance(self, main: Tensor, others: Sequence[Tensor], count: int) -> Tensor:
        """Of all scales from their mean, rectified by how sure they are."""
        return rectified_consistency([log_probabilities(logits[count:]) for logits in (main, *others)])

    def predictions(self, images: Tensor, parts: Sequence[int], generator: Generator) -> tuple[Tensor, list[Tensor]]:
        """Full-size logits, and those of coarser scales brought to full size, finest first."""
        *coarse, finest = self.network.decoder(self.network.encoder(images))
        mode = "bilinear" if self.network.config.ndim == 2 else "trilinear"
        others = []
        for index, classifier in enumerate(self.classifiers):
            way = WAYS[min(index, len(WAYS) - 1)]
            features = perturb_features(coarse[-1 - index], way, parts, self.settings, generator)
            others.append(functional.interpolate(classifier(features), size=images.shape[2:], mode=mode))
        return self.network.classifier(finest), others
