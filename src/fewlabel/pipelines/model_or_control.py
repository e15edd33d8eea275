"""Which of model and control a run uses, as far as validation or left-out patients can tell; test scans choose nothing.

The choice is kept in ``run.json``, which ``predict RUN`` goes by.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json

#: The control takes the place of the model where its mean Dice is higher by more than this.
MARGIN = 0.005
ONE_PATIENT = "with one labelled patient nothing can tell which is better"
NO_CONTROL = "there is no control"
UNTOLD = "no patient was validated on or left out, so nothing but test scans could tell which is better"
_BY = {"held_out": "validation", "leave_one_out": "left-out patients"}


def better_of(model: Mapping[str, Any], control: Mapping[str, Any] | None) -> dict[str, Any]:
    """What ``run.json`` says of the choice.

    The best mean validation Dice decides where held-out patients selected both; else what they reached on labelled
    patients who were left out in turn.

    Args:
        model: Content of its ``segmenter.json``.
        control: That of the control; None where there is none.

    Returns:
        ``arm``: ``model`` or ``control``; ``by``: ``validation`` or ``left-out patients``, or None where nothing could
        tell; ``dice``: arm → what decided, empty then; ``margin``; ``reason`` in words.
    """
    default: dict[str, Any] = {"arm": "model", "by": None, "dice": {}, "margin": MARGIN}
    if control is None:
        return {**default, "reason": NO_CONTROL}
    by, dice = _compared(model, control)
    if not by:
        one = len(model.get("labelled_subjects", ())) == 1
        return {**default, "reason": ONE_PATIENT if one else UNTOLD}
    ahead = dice["control"] - dice["model"]
    arm = "control" if ahead > MARGIN else "model"
    reason = f"mean Dice {dice['model']:.3f}, control {dice['control']:.3f}, by {by}"
    tied = f"; a control must be better by more than {MARGIN}" if 0 < ahead <= MARGIN else ""
    return {**default, "arm": arm, "by": by, "dice": dice, "reason": reason + tied}


def _compared(model: Mapping[str, Any], control: Mapping[str, Any]) -> tuple[str, dict[str, float]]:
    """By what both can be compared, and their mean Dice."""
    arms = {"model": model, "control": control}
    selections = {str(facts.get("selection")) for facts in arms.values()}
    validated = {name: facts.get("validation_dice") for name, facts in arms.items()}
    expected = {name: _at(facts, "expected", "mean", "dice", "mean") for name, facts in arms.items()}
    if selections == {"held_out"} and None not in validated.values():
        return _BY["held_out"], {name: float(value) for name, value in validated.items() if value is not None}
    if None not in expected.values():
        return _BY["leave_one_out"], {name: float(value) for name, value in expected.items()}
    if selections == {"leave_one_out"} and None not in validated.values():
        return _BY["leave_one_out"], {name: float(value) for name, value in validated.items() if value is not None}
    return "", {}


def _at(facts: Mapping[str, Any], *keys: str) -> Any:
    """A value in nested mappings; None where any is missing."""
    value: Any = facts
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def choice(segmenter: Path, control: Path | None) -> dict[str, Any]:
    """As :func:`better_of`, of two folders, with ``content`` → arm → its content hash: what the choice holds for."""
    folders = {"model": segmenter, "control": control}
    opened = {name: None if folder is None else Artifact.find(folder, "segmenter") for name, folder in folders.items()}
    there = {name: artifact for name, artifact in opened.items() if artifact is not None}
    facts = {name: _facts(artifact) for name, artifact in there.items()}
    content = {name: artifact.content_hash for name, artifact in there.items()}
    return {**better_of(facts.get("model", {}), facts.get("control")), "content": content}


def _facts(artifact: Artifact) -> dict[str, Any]:
    name = "segmenter.json"
    return dict(artifact.json(name)) if name in artifact.manifest.files else {}


def choice_line(use: Mapping[str, Any]) -> str:
    """The choice for the user."""
    if use["arm"] == "control":
        return f"The control is better ({use['reason']}): predict on the run folder uses the control."
    return f"predict on the run folder uses the model: {use['reason']}."


def surprise_line(use: Mapping[str, Any], scores: Path) -> str:
    """What test scans say against the choice, beyond their noise, and that it changes nothing; empty where they do not.

    Args:
        use: The choice.
        scores: Folder of the scores.
    """
    summary = read_json(scores / "summary.json") if (scores / "summary.json").is_file() else {}
    gain = _at(summary, "gain", "mean", "dice") or {}
    mean = gain.get("mean")
    if mean is None or not str(gain.get("verdict", "")).endswith("outside the noise"):
        return ""
    ahead = "model" if mean > 0 else "control"
    if ahead == use["arm"]:
        return ""
    folder = "segmenter" if ahead == "model" else "segmenter-control"
    return (
        f"On the test scans the {ahead} is ahead beyond the noise (Dice {abs(mean):.3f} higher). predict on the run "
        f"folder still uses the {use['arm']}: test scans choose nothing. To use the {ahead}, name {folder}."
    )
