"""A finished segmenter as the stages that predict take it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact import Origin, open_artifact
from fewlabel.core.unchanged import check_origin
from fewlabel.engine.ensemble import Prediction, predict_ensemble
from fewlabel.engine.inference import folded, window_of
from fewlabel.engine.runtime import Precision
from fewlabel.engine.weights import load_members
from fewlabel.nets.unet import UNet
from fewlabel.scoring.components import ComponentRule
from fewlabel.stages._postprocess import rule_of

#: What must be equal in the plans of a store and a segmenter for the store's pixels to be what the segmenter expects.
_SAME_PLAN = ("spacing", "size", "channels", "normalise", "label_values")
#: Where the patient axes of a frame run to, and against them.
_TOWARDS = (("left", "right"), ("posterior", "anterior"), ("superior", "inferior"))


@dataclass(frozen=True)
class Segmenter:
    """A segmenter ready to predict.

    Attributes:
        folder: Where it lies.
        networks: Its members, one or several, for prediction only, batch normalisation folded.
        facts: Content of ``segmenter.json``.
        content_hash: Of the artifact.
    """

    folder: Path
    networks: tuple[UNet, ...]
    facts: dict[str, Any]
    content_hash: str

    @classmethod
    def load(cls, folder: Path) -> Segmenter:
        """The segmenter of a folder.

        Raises:
            ArtifactError: If it is no finished segmenter, or is damaged.
        """
        manifest = open_artifact(folder, "segmenter")
        networks, facts = load_members(folder)
        check_origin(Origin.of(folder, manifest))
        return cls(folder, tuple(map(folded, networks)), facts, manifest.content_hash)

    def predict(
        self,
        array: NDArray[np.float32],
        *,
        batch: int = 0,
        flip: bool = False,
        device: str | None = None,
        precision: Precision = "auto",
        uncertainty: bool = False,
    ) -> Prediction:
        """What its networks say of a prepared volume: their mean, and how far they lie apart.

        Args:
            array: (channels, depth, height, width) in [0, 1].
            batch: Slices, or windows in 3D, in one pass; 0 for what suits the device.
            flip: Average over the flips of the slice plane.
            device: Where to compute.
            precision: Of the networks.
            uncertainty: Whether to make the map.
        """
        return predict_ensemble(
            self.networks,
            array,
            uncertainty=uncertainty,
            batch=batch,
            flip=flip,
            device=device,
            precision=precision,
            window=self.window,
        )

    @property
    def origin(self) -> Origin:
        """What an artifact made with it names as its parent."""
        return Origin(self.folder, "segmenter", self.content_hash)

    @property
    def window(self) -> tuple[int, int, int]:
        """Largest window of a 3D network."""
        return window_of(self.facts)

    @property
    def rule(self) -> ComponentRule | None:
        """How its predictions are cleaned; None if not at all."""
        return rule_of(self.facts)


def plan_differences(facts: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What keeps a segmenter from reading a store's pixels: key → its value then, and in the store now.

    Args:
        facts: Content of ``segmenter.json``.
        plan: The store's.
    """
    then = facts.get("plan", {})
    found = {key: (then.get(key), plan.get(key)) for key in _SAME_PLAN if then.get(key) != plan.get(key)}
    return {**found, **_laid_otherwise(then, plan)}


def _laid_otherwise(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Whether scans are laid along other axes, or another way round, than they were; plans that do not say are alike.

    What counts is how the slices lie in the patient: the name of the axis across them depends on how a file is stored,
    and the frame is that of one scan, so it differs a little between stores whose scans lie alike. Frames are alike
    where each axis of one is nearest to the same axis of the other, and runs the same way.
    """
    before, after = _frame(then), _frame(now)
    if before is None or after is None:
        return {}
    cosines = before @ after.T
    nearest = np.abs(cosines).argmax(axis=1)
    if nearest[0] != 0:
        named = [f"{plan['orient'].get('slice_axis')} (slices run to {_towards(plan)[0]})" for plan in (then, now)]
        return {"slice_axis": (named[0], named[1])}
    if nearest.tolist() == [0, 1, 2] and bool((np.diag(cosines) > 0).all()):
        return {}
    told = ["slices to {}, rows to {}, columns to {}".format(*_towards(plan)) for plan in (then, now)]
    return {"orientation": (told[0], told[1])}


def _frame(plan: Mapping[str, Any]) -> NDArray[np.float64] | None:
    frame = (plan.get("orient") or {}).get("frame")
    return None if frame is None else np.asarray(frame, dtype=np.float64)


def _towards(plan: Mapping[str, Any]) -> list[str]:
    """Where slices, rows and columns run to, by the nearest patient axis."""
    rows = np.asarray(plan["orient"]["frame"], dtype=np.float64)
    return [_TOWARDS[axis][int(row[axis] < 0)] for row, axis in zip(rows, np.abs(rows).argmax(axis=1), strict=True)]
