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
from fewlabel.engine.inference import folded, window_of
from fewlabel.engine.weights import load_segmenter
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
        network: For prediction only, batch normalisation folded.
        facts: Content of ``segmenter.json``.
        content_hash: Of the artifact.
    """

    folder: Path
    network: UNet
    facts: dict[str, Any]
    content_hash: str

    @classmethod
    def load(cls, folder: Path) -> Segmenter:
        """The segmenter of a folder.

        Raises:
            ArtifactError: If it is no finished segmenter, or is damaged.
        """
        manifest = open_artifact(folder, "segmenter")
        network, facts = load_segmenter(folder)
        check_origin(Origin.of(folder, manifest))
        return cls(folder, folded(network), facts, manifest.content_hash)

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
