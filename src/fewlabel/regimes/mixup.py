"""Mixup of labelled slices; unlabelled ones are not used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fewlabel.core.collective import gather
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.objectives.mixing import beta_shares, mix, partners
from fewlabel.objectives.segmentation import IGNORE, soft_target_cross_entropy, soft_target_dice
from fewlabel.regimes.base import Regime
from fewlabel.regimes.supervised_loss import SupervisedSettings, supervised_terms


class Mixup(Regime):
    """Mixup (Zhang et al., ICLR 2018, arXiv 1710.09412) of labelled slices; **no unlabelled slice is used**.

    ``L(σ(f(μ x + (1-μ) x')), μ y + (1-μ) y')`` with L = CE + (1 - Dice) for soft targets, y one-hot and
    μ ~ Beta(``alpha``, ``alpha``) per slice; x' is another labelled slice of the batch, of whatever height.

    Tables list it among semi-supervised methods (GCL, Tab. 2); for a mix of unlabelled slices see ``ict``.

    What differs from public codes: SPL mixes a slice with an augmented copy of itself, as a term of weight 0.01 beside
    the plain loss; here the mixed slices are the batch, as in the paper. A pixel counts where every slice with a share
    in it has a label.

    Example:
        >>> regime = Mixup(Mixup.Config(alpha=0.4), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice']
    """

    class Config(SupervisedSettings):
        """Settings of mixup."""

        name: str = "mixup"
        alpha: float = setting(
            0.2,
            "α of the Beta distribution of the shares; 0 is supervised training",
            ge=0,
            source="Zhang et al.: 0.1 to 0.4",
        )

    settings: Config
    supervised_when: ClassVar[Mapping[str, Any]] = {"alpha": 0.0}
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Zhang et al., ICLR 2018, arXiv 1710.09412"

    def losses(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """``ce`` and ``dice`` of mixed slices; one with weight 0 is not computed."""
        settings, images, labels = self.settings, batch.images, batch.labels
        if settings.alpha == 0:
            return supervised_terms(settings, self.network(images), labels)
        other = partners(len(images), batch.generator).to(images.device)
        shares = beta_shares(len(images), settings.alpha, batch.generator).to(images)
        logits = self.network(mix(images, gather(images)[other], shares))
        target, known = mixed_targets(labels, gather(labels)[other], shares, self.network.classes)
        terms = {}
        if settings.ce_weight:
            terms["ce"] = settings.ce_weight * soft_target_cross_entropy(logits, target, known)
        if settings.dice_weight:
            terms["dice"] = settings.dice_weight * soft_target_dice(
                logits,
                target,
                known,
                batch=settings.dice_per_batch,
                background=settings.dice_background,
                smooth=settings.dice_smooth,
            )
        return terms


def mixed_targets(first: Tensor, second: Tensor, shares: Tensor, classes: int) -> tuple[Tensor, Tensor]:
    """μ y + (1-μ) y' for one-hot y, y', and where it is known.

    Args:
        first: Labels (n, *space) int64 of y; 255 is unknown.
        second: The same of y'.
        shares: μ, (n,).
        classes: Number of classes.

    Returns:
        Targets (n, classes, *space) of the type of ``shares``, which sum to 1 where known and are 0 elsewhere, and
        (n, *space) bool: pixels where every slice with a share above 0 has a label.
    """
    share = shares.view(-1, *[1] * (first.dim() - 1))
    known = ((first != IGNORE) | (share == 0)) & ((second != IGNORE) | (share == 1))
    index = torch.arange(classes, device=first.device).view(-1, *[1] * (first.dim() - 1))
    one, two = ((labels[:, None] == index).to(shares) for labels in (first, second))
    return mix(one, two, shares) * known[:, None], known
