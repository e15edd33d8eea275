"""Bidirectional copy-paste: rectangles of labelled slices on unlabelled ones, and the other way round."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fewlabel.core.collective import gather
from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.objectives.connected_components import largest_components
from fewlabel.objectives.mixing import boxes, matches, partners
from fewlabel.objectives.segmentation import IGNORE
from fewlabel.regimes.semi_supervised import resting_steps
from fewlabel.regimes.teacher_student import TeacherStudent, TeacherStudentSettings


class BidirectionalCopyPaste(TeacherStudent):
    """BCP (Bai et al., CVPR 2023, arXiv 2305.00673), in slices and volumes.

    With a mask M that is 0 in a rectangle at a random place and 1 around it, the student is trained on
    ``u·M + l·(1-M)`` and ``l·M + u·(1-M)``: by the labels y where a pixel is of l, and with the weight
    α = ``unlabelled_weight`` by pseudo-labels ŷ where it is of u, ``L = L_sup(y) + α L_sup(ŷ)``. ŷ is the teacher's
    arg-max for u, of which each class of a slice keeps its largest connected component. In the first ``rest`` of the
    run labelled slices are pasted on each other only, and the teacher is the student; then its average starts.

    What differs from the public code: one run, where the code trains two and starts both networks of the second from
    the first's best validation; the average starts as every teacher's does here (there: with α from its first step).
    Every slice of the batch is background once and has a rectangle of its own (there: half of the slices, one rectangle
    for all); means are over all pixels of a source in the batch. The ramps that the code defines are unused there and
    off here. ``unlabelled_weight=0`` pastes nothing and is supervised training.

    Example:
        >>> regime = BidirectionalCopyPaste(BidirectionalCopyPaste.Config(side=0.5), network)
        >>> list(regime.losses(segmentation_batch))
        ['ce', 'dice', 'pseudo']
    """

    class Config(TeacherStudentSettings):
        """Settings of BCP."""

        name: str = "bcp"
        unlabelled_weight: float = setting(
            0.5, "weight α of pixels with pseudo-labels; 0 is supervised training, nothing pasted", ge=0, source="BCP"
        )
        ramp: float = setting(
            0.0, "share of the run over which α grows by exp(-5 (1 - t)²); 0 for a constant α", ge=0, le=1, source="BCP"
        )
        rest: float = setting(
            0.25,
            "share of the run, from its start, in which labelled slices are pasted on each other only",
            ge=0,
            lt=1,
            source="BCP: 10000 of 40000 iterations",
        )
        side: float = setting(
            2 / 3, "side of the rectangle over side of the slice; 0 is self-training", ge=0, le=1, source="BCP"
        )
        largest_component: bool = setting(
            True, "keep the largest component of each class in pseudo-labels only", source="BCP"
        )

    settings: Config
    supports_3d: ClassVar[bool] = True
    paper: ClassVar[str] = "Bai et al., CVPR 2023, arXiv 2305.00673"

    def labelled_terms(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """``ce`` and ``dice`` of labelled slices with rectangles of each other."""
        if self.settings.unlabelled_weight == 0:
            return super().labelled_terms(batch)
        other = partners(len(batch.images), batch.generator).to(batch.images.device)
        inside = self._boxes(batch.images, batch)
        images = torch.where(inside[:, None], gather(batch.images)[other], batch.images)
        labels = torch.where(inside, gather(batch.labels)[other], batch.labels)
        return self.supervision(self.network(images), labels)

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``pseudo``."""
        images, known, guessed = self.paste(batch, unlabelled, self.pseudo_labels(unlabelled))
        with self.streams(len(batch.images), len(unlabelled)):
            logits = self.network(images)
        pseudo = torch.stack(list(self.supervision(logits, guessed).values())).sum()
        self.log(pseudo=pseudo)
        return {**self.supervision(logits, known), "pseudo": weight * pseudo}

    def after_step(self, step: int, total_steps: int) -> None:
        """The teacher is the student while that learns from labelled slices alone, and follows it from there."""
        first = resting_steps(self.settings.rest, total_steps)
        self.teacher.update(self.network, max(step - first, 0), fed=self.joined)

    def pseudo_labels(self, unlabelled: Tensor) -> Tensor:
        """The teacher's labels (u, *space) int64, filtered."""
        labels = self.teacher(unlabelled).argmax(dim=1)
        kept = largest_components(labels) if self.settings.largest_component else labels
        self.log(foreground=(kept > 0).float().mean(), filtered=(kept != labels).float().mean())
        return kept

    def paste(self, batch: SegmentationBatch, unlabelled: Tensor, pseudo: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The two mixes: labelled slices with a rectangle of an unlabelled one, then the reverse.

        Args:
            batch: n labelled rows; without any, unlabelled slices stay whole.
            unlabelled: (u, channels, *space).
            pseudo: Their labels (u, *space).

        Returns:
            Images (n + u, channels, *space), their labels where a pixel is labelled and their pseudo-labels where it is
            not, each (n + u, *space) int64 and 255 elsewhere.
        """
        labelled, labels = batch.images, batch.labels
        if len(labelled) == 0:
            return unlabelled, torch.full_like(pseudo, IGNORE), pseudo
        device = labelled.device
        guests = matches(len(labelled), len(unlabelled), batch.generator).to(device)
        donors = matches(len(unlabelled), len(labelled), batch.generator).to(device)
        inner, outer = self._boxes(labelled, batch), self._boxes(unlabelled, batch)
        images = torch.cat(
            [
                torch.where(inner[:, None], gather(unlabelled)[guests], labelled),
                torch.where(outer[:, None], gather(labelled)[donors], unlabelled),
            ]
        )
        known = torch.cat(
            [labels.masked_fill(inner, IGNORE), gather(labels)[donors].masked_fill(~outer, IGNORE)],
        )
        guessed = torch.cat(
            [gather(pseudo)[guests].masked_fill(~inner, IGNORE), pseudo.masked_fill(outer, IGNORE)],
        )
        return images, known, guessed

    def _boxes(self, images: Tensor, batch: SegmentationBatch) -> Tensor:
        return boxes(len(images), images.shape[2:], self.settings.side, batch.generator).to(images.device)
