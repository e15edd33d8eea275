"""Entropy minimisation: the network must be sure of every pixel, labelled or not."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor

from fewlabel.data.batch import SegmentationBatch
from fewlabel.objectives.semi_supervised_loss_parts import entropy
from fewlabel.regimes.semi_supervised import SemiSettings, SemiSupervised, concat_streams


class EntropyMinimisation(SemiSupervised):
    """Entropy minimisation (Grandvalet & Bengio, NeurIPS 2004; on pixels: Vu et al., CVPR 2019, arXiv 1811.12833).

    ``L_sup + λ(t) · mean H(σ(f(x))) / log C`` over the pixels of labelled and unlabelled slices, 1 for uniform
    predictions and 0 for sure ones.

    What differs from the public code of SSL4MIS: C is the number of classes of the data, there 4 whatever the data;
    log-probabilities are exact, there log(p + 1e-6). Predictions that are all background are a minimum too: watch
    ``foreground`` in the log, the share of pixels that are predicted as some structure.

    Example:
        >>> regime = EntropyMinimisation(EntropyMinimisation.Config(unlabelled_weight=0.05), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'entropy']
    """

    class Config(SemiSettings):
        """Settings of entropy minimisation."""

        name: str = "entropy"

    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Grandvalet & Bengio, NeurIPS 2004; Vu et al., CVPR 2019, arXiv 1811.12833"

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``entropy``."""
        with self.streams(len(batch.images), len(unlabelled)):
            logits = self.network(concat_streams(batch, unlabelled))
        share = (entropy(logits) / math.log(logits.shape[1])).mean()
        self.log(entropy=share, foreground=(logits.detach().argmax(dim=1) > 0).float().mean())
        return {**self.supervision(logits[: len(batch.images)], batch.labels), "entropy": weight * share}
