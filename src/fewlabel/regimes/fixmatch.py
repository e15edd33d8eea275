"""FixMatch for segmentation: sure pseudo-labels of a weak view train a strong view of the same slice."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fewlabel.data.batch import SegmentationBatch
from fewlabel.regimes.weak_to_strong import Pseudo, WeakToStrong, WeakToStrongSettings


class FixMatch(WeakToStrong):
    """FixMatch (Sohn et al., NeurIPS 2020, arXiv 2001.07685) in two phases, with CutMix.

    ``L = L_sup + λ(t) · (CE + Dice)(S(s), ŷ)``, ŷ the classes of a weak view that the teacher T is sure of, s a strong
    view of the same slice with a box of another.

    What differs from the paper: it starts from a supervised first phase; T is a moving average of the student (there:
    the student; ``teacher=self``); the threshold is 0.9 (there: 0.95); CutMix; the guard of the base.

    Example:
        >>> regime = FixMatch(FixMatch.Config(threshold=0.95), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'pseudo']
    """

    class Config(WeakToStrongSettings):
        """Settings of FixMatch."""

        name: str = "fixmatch"

    unlabelled_views: ClassVar[int] = 2
    paper: ClassVar[str] = "Sohn et al., NeurIPS 2020, arXiv 2001.07685"

    def pseudo_loss(self, batch: SegmentationBatch, weak: Tensor, pseudo: Pseudo) -> tuple[dict[str, Tensor], Tensor]:
        """One pass of labelled slices and strong views."""
        strong, labels = self.mixed(batch.unlabelled_again[0], pseudo, batch)
        count = len(batch.images)
        with self.streams(count, len(weak)):
            logits = self.segment(torch.cat([batch.images, strong]), batch.labels, labels)
        return self.supervision(logits[:count], batch.labels), self.strong_loss(logits[count:], labels)
