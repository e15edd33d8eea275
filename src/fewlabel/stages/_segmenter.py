"""A finished segmenter as the stages that predict take it up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.artifact import open_artifact
from fewlabel.engine.inference import folded, window_of
from fewlabel.engine.weights import load_segmenter
from fewlabel.nets.unet import UNet

#: What must be equal in the plans of a store and a segmenter for the store's pixels to be what the segmenter expects.
_SAME_PLAN = ("spacing", "size", "channels", "normalise", "label_values")


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
        return cls(folder, folded(network), facts, manifest.content_hash)

    @property
    def window(self) -> tuple[int, int, int]:
        """Largest window of a 3D network."""
        return window_of(self.facts)


def plan_differences(facts: Mapping[str, Any], plan: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What keeps a segmenter from reading a store's pixels: key → its value then, and in the store now.

    Args:
        facts: Content of ``segmenter.json``.
        plan: The store's.
    """
    then = facts.get("plan", {})
    return {key: (then.get(key), plan.get(key)) for key in _SAME_PLAN if then.get(key) != plan.get(key)}
