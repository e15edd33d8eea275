"""Regimes whose network gives several predictions for the same pixels, of which the main one is kept."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Generator, Tensor

from fewlabel.core.settings.base import setting
from fewlabel.data.batch import SegmentationBatch
from fewlabel.regimes.semi_supervised import SemiSettings, SemiSupervised, concat_streams


class AuxiliarySettings(SemiSettings):
    """Settings of regimes with auxiliary predictions."""

    auxiliary_weight: float = setting(
        1.0,
        "weight a of each auxiliary prediction in the supervised mean, where the main one has 1; "
        "0 supervises the main one alone",
        ge=0,
        source="SSL4MIS: all alike",
    )


class Auxiliary(SemiSupervised):
    """A regime with auxiliary predictions, supervised together: ``(L(main) + a Σ L(auxiliary)) / (1 + a·number)``.

    Children implement :meth:`predictions` and :meth:`distance`. With ``unlabelled_weight`` and ``auxiliary_weight``
    0 only the main prediction is computed.
    """

    settings: AuxiliarySettings
    supervised_when: ClassVar[Mapping[str, Any]] = {"unlabelled_weight": 0.0, "auxiliary_weight": 0.0}

    @abstractmethod
    def predictions(self, images: Tensor, parts: Sequence[int], generator: Generator) -> tuple[Tensor, list[Tensor]]:
        """Main logits (n, classes, *space), and auxiliary ones of the same shape.

        Args:
            images: (n, channels, *space).
            parts: How many of them are of each stream, in order.
            generator: CPU generator of this step, equal on all ranks.
        """

    @abstractmethod
    def distance(self, main: Tensor, others: Sequence[Tensor], count: int) -> Tensor:
        """How far predictions of the same pixels are from each other: a scalar, of which λ times is minimised.

        Args:
            main: Main logits (n + u, classes, *space), labelled rows first.
            others: Auxiliary ones of the same shape.
            count: n.
        """

    def joint_terms(self, batch: SegmentationBatch, unlabelled: Tensor, weight: float) -> dict[str, Tensor]:
        """``ce``, ``dice`` and ``consistency``."""
        rows = count, _ = len(batch.images), len(unlabelled)
        with self.streams(*rows):
            main, others = self.predictions(concat_streams(batch, unlabelled), rows, batch.generator)
        distance = self.distance(main, others, count)
        self.log(consistency=distance)
        supervised = self.shared_supervision(main[:count], [logits[:count] for logits in others], batch.labels)
        return {**supervised, "consistency": weight * distance}

    def labelled_terms(self, batch: SegmentationBatch) -> dict[str, Tensor]:
        """The supervised mean over predictions, or the main one alone."""
        if self.settings.auxiliary_weight == 0:
            return super().labelled_terms(batch)
        main, others = self.predictions(batch.images, (len(batch.images),), batch.generator)
        return self.shared_supervision(main, others, batch.labels)

    def shared_supervision(self, main: Tensor, others: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """``ce`` and ``dice``, each the weighted mean over predictions."""
        terms, share = self.supervision(main, labels), self.settings.auxiliary_weight
        if share == 0:
            return terms
        rest = [self.supervision(logits, labels) for logits in others]
        whole = 1 + share * len(rest)
        return {name: (term + share * sum(part[name] for part in rest)) / whole for name, term in terms.items()}
