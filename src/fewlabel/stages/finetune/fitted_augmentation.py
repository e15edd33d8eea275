"""Augmentation of a fine-tuning, fitted to how the scans of its data differ in the plane."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fewlabel.data.augment_settings import AugmentConfig
from fewlabel.data.augmentation_from_poses import Reach, reach, wider_ranges
from fewlabel.data.pose_record import read_poses
from fewlabel.stages.finetune.settings import FinetuneSettings

_WORDS = {
    "rotation": "rotation up to {used:g} degrees (set: {asked:g})",
    "scale_low": "scale down to {used:g} (set: {asked:g})",
    "scale_high": "scale up to {used:g} (set: {asked:g})",
    "translation": "translation up to {used:g} of the side (set: {asked:g})",
}


@dataclass(frozen=True)
class FittedAugment:
    """What a fine-tuning draws its views from.

    Attributes:
        augment: The augmentation to train with.
        widened: Setting → what was asked and what is used, for those made wider.
        said: One line about it for the user; empty where there is nothing to say.
    """

    augment: AugmentConfig
    widened: dict[str, dict[str, float]]
    said: str


def fitted_augment(settings: FinetuneSettings, store: Path, labelled: Sequence[str]) -> FittedAugment:
    """The augmentation of the settings, wider where other scans differ from the labelled ones by more than it reaches.

    Args:
        settings: Settings of the stage.
        store: The prepared folder.
        labelled: Subjects of the draw.

    Raises:
        ArtifactError: If ``pose.json`` of the store is damaged.
    """
    asked = settings.augment
    if not settings.widen_augment:
        return FittedAugment(asked, {}, "")
    poses = read_poses(store)
    reached = Reach() if poses is None else reach(poses, labelled)
    changes = wider_ranges(asked, reached)
    if not changes:
        return FittedAugment(asked, {}, "")
    widened = {name: {"asked": float(getattr(asked, name)), "used": value} for name, value in changes.items()}
    words = ", ".join(_WORDS[name].format(**values) for name, values in widened.items())
    why = "to reach from the labelled scans to the others"
    if reached == Reach():
        why = "since it is not known how the scans lie in the plane"
    if poses is None:
        why = f"since {store} does not say how its scans lie in the plane: prepare it again to have ranges that fit"
    said = f"augment: {words}, {why} (widen_augment=false: as set)."
    return FittedAugment(asked.model_copy(update=changes), widened, said)
