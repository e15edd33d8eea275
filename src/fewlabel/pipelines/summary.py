"""The outcome of a run in a small table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact import is_artifact, read_json

HEADS = ("Dice", "model", "from scratch", "gain (interval)")


def outcome(run: Path) -> list[tuple[str, str, str, str]]:
    """Rows of :data:`HEADS`: a class, then both networks' mean Dice and the gain; last the mean and what it means.

    Args:
        run: Folder made by ``train`` or ``demo``; without scores there are no rows.
    """
    scores = run / "scores"
    if not is_artifact(scores, "scores"):
        return []
    summary = read_json(scores / "summary.json")
    arms, gain = summary["arms"], summary["gain"]
    keys = [(values["name"], ("classes", index)) for index, values in arms["model"]["classes"].items()]
    rows = []
    for name, path in [*keys, ("mean", ("mean",))]:
        control = _number(_at(arms["control"], path)) if "control" in arms else ""
        rows.append((name, _number(_at(arms["model"], path)), control, _gain(_at(gain, path)) if gain else ""))
    return rows


def verdict(run: Path) -> str:
    """What the gain in mean Dice over the control amounts to, in words; empty without scores or control."""
    scores = run / "scores"
    if not is_artifact(scores, "scores"):
        return ""
    summary = read_json(scores / "summary.json")
    if not summary["gain"]:
        return ""
    dice = summary["gain"]["mean"]["dice"]
    chance = "" if dice["p"] is None else f", p = {dice['p']:.3g}"
    return f"pre-training against scratch: {_gain(dice)} mean Dice{chance}: {dice['verdict']}"


def _at(tree: Mapping[str, Any], path: tuple[str, ...]) -> Mapping[str, Any]:
    for key in path:
        tree = tree[key]
    found: Mapping[str, Any] = tree["dice"]
    return found


def _number(values: Mapping[str, Any]) -> str:
    return "" if values["mean"] is None else f"{values['mean']:.3f}"


def _gain(values: Mapping[str, Any]) -> str:
    if values["mean"] is None:
        return ""
    interval = "" if values["low"] is None else f" ({values['low']:+.3f} to {values['high']:+.3f})"
    return f"{values['mean']:+.3f}{interval}"
