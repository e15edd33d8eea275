"""UniMatch: a weak view trains two strong ones and itself with channels of its maps dropped."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.objectives.feature_perturbation import channels_dropped
from fewlabel.regimes.weak_to_strong import Pseudo, WeakToStrong, WeakToStrongSettings


class UniMatch(WeakToStrong):
    """UniMatch (Yang et al., CVPR 2023, arXiv 2208.09910) in two phases.

    ``L = L_sup + λ(t) · (¼ L(s₁) + ¼ L(s₂) + ½ L(w, dropped))``: two strong views, each with a box of another slice,
    and the weak view w with a share of the channels of every encoder map dropped, all towards the classes of w that the
    teacher is sure of. Boxes, and the slices they come from, are drawn for each strong view apart.

    What differs from the public code for medical images:

    * **Run.** A supervised first phase, a λ that grows in the second, and the guard (there: none of these). The last
      weights count (there: the best on validation and test together).
    * **Teacher.** A moving average (there: the student, in the train-mode pass that is learnt from; ``teacher=self``:
      the student, in a pass of its own). It also labels the boxes (there: the student in eval mode). It is sure from
      0.9 (there: 0.95), and what it says is held to one piece where labelled slices are (there: not).
    * **Boxes.** On every strong view (there: on half of them, drawn for each apart as well; ``cutmix=0.5``), of slices
      of the same batch (there: of a second batch, the same slice for both views). The ratio of their sides is drawn on
      a logarithmic scale (there: uniformly).
    * **Loss.** Each L is cross-entropy plus Dice (there: half of that for labelled slices, Dice alone for the others;
      its Dice has squares and counts the background).
    * **Statistics.** Each stream has its own (there: one pass of labelled and weak slices shares them, and one of both
      strong views; ``joint=true``: all share them).

    Example:
        >>> regime = UniMatch(UniMatch.Config(drop=0.3), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'pseudo']
    """

    class Config(WeakToStrongSettings):
        """Settings of UniMatch."""

        name: str = "unimatch"
        drop: float = setting(
            0.5, "share of the channels of each encoder map that the third stream drops", ge=0, lt=1, source="UniMatch"
        )

    settings: Config
    unlabelled_views: ClassVar[int] = 3
    paper: ClassVar[str] = "Yang et al., CVPR 2023, arXiv 2208.09910"

    def pseudo_loss(self, batch: SegmentationBatch, weak: Tensor, pseudo: Pseudo) -> tuple[dict[str, Tensor], Tensor]:
        """One pass of the encoder over labelled, strong and weak rows; channels are dropped before the decoder."""
        first, second = (self.mixed(view, pseudo, batch) for view in batch.unlabelled_again)
        rows = [len(batch.images), len(weak), len(weak), len(weak)]
        with self.streams(*rows):
            maps = self.network.encoder(torch.cat([batch.images, first[0], second[0], weak]))
            dropped = [self._dropped(part, rows, batch) for part in maps]
            logits = self.classify(self.network.decoder(dropped)[-1], batch.labels, first[1], second[1])
        own, one, two, third = torch.split(logits, rows)
        strong = 0.25 * (self.strong_loss(one, first[1]) + self.strong_loss(two, second[1]))
        return self.supervision(own, batch.labels), strong + 0.5 * self.strong_loss(third, pseudo.labels)

    def _dropped(self, part: Tensor, rows: list[int], batch: SegmentationBatch) -> Tensor:
        """A map whose last rows have lost channels."""
        kept, last = part[: -rows[-1]], part[-rows[-1] :]
        return torch.cat([kept, channels_dropped(last, rows[-1:], self.settings.drop, batch.generator)])
