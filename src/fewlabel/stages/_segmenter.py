"""A finished segmenter as the stages that predict take it up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.data.preprocess import Plan
from fewlabel.engine.ensemble import Prediction, Slab, predict_ensemble_slabs, whole_prediction
from fewlabel.engine.inference import Pixels, PredictOptions, folded, window_of
from fewlabel.engine.weight_files import load_members
from fewlabel.nets.unet import UNet
from fewlabel.scoring.component_rule import ComponentRule
from fewlabel.stages._cleaning_rule import rule_of


@dataclass(frozen=True)
class Segmenter:
    """A segmenter ready to predict.

    Attributes:
        artifact: As it was opened; what is made with it names it as its parent.
        networks: Its members, one or several, for prediction only, batch normalisation folded.
        facts: Content of ``segmenter.json``.
    """

    artifact: Artifact
    networks: tuple[UNet, ...]
    facts: dict[str, Any]

    @classmethod
    def load(cls, source: Path | Artifact) -> Segmenter:
        """A segmenter, or that of a folder.

        Raises:
            ArtifactError: If it is no finished segmenter, or is damaged.
        """
        artifact = source if isinstance(source, Artifact) else Artifact.open(source, "segmenter")
        networks, facts = load_members(artifact)
        artifact.check_unchanged()
        return cls(artifact, tuple(map(folded, networks)), facts)

    def predict(self, array: NDArray[np.float32], **options: Unpack[PredictOptions]) -> Prediction:
        """What its networks say of a prepared volume: their mean, and how far they lie apart.

        Args:
            array: (channels, depth, height, width) in [0, 1].
            options: As of :meth:`predict_slabs`.
        """
        return whole_prediction(self.predict_slabs(array, **options), array.shape[1])

    def predict_slabs(
        self,
        pixels: NDArray[np.float32] | Pixels,
        *,
        uncertainty: bool = False,
        **options: Unpack[PredictOptions],
    ) -> Iterator[Slab]:
        """As :meth:`predict`, slab by slab along the slices: neither volume nor probabilities are in memory as a whole.

        Args:
            pixels: (channels, depth, height, width) in [0, 1], or what makes its slices.
            uncertainty: Whether to make the map.
            options: As of :func:`fewlabel.engine.inference.predict_slabs`; the window is that of training.
        """
        options.setdefault("window", self.window)
        return predict_ensemble_slabs(self.networks, pixels, uncertainty=uncertainty, **options)

    @cached_property
    def plan(self) -> Plan:
        """How its pixels were prepared."""
        return Plan.load(self.facts["plan"])

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return self.artifact.folder

    @property
    def content_hash(self) -> str:
        """Of the artifact."""
        return self.artifact.content_hash

    @property
    def window(self) -> tuple[int, int, int]:
        """Largest window of a 3D network."""
        return window_of(self.facts)

    @property
    def rule(self) -> ComponentRule | None:
        """How its predictions are cleaned; None if not at all."""
        return rule_of(self.facts)
