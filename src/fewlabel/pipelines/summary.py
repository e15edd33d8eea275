"""The outcome of a run in a small table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact import is_artifact, read_json

Row = tuple[str, str, str, str]


def heads(run: Path) -> Row:
    """Heads of :func:`outcome`; the third says what the control is."""
    _, control = _compared(_summary(run))
    return "Dice", "model", "from scratch" if control == "scratch" else control, "gain (interval)"


def outcome(run: Path) -> list[Row]:
    """Rows: a class, then both networks' mean Dice and the gain; last the mean and what it means.

    Args:
        run: Folder made by ``train`` or ``demo``; without scores there are no rows.
    """
    summary = _summary(run)
    if not summary:
        return []
    arms, gain = summary["arms"], summary["gain"]
    keys = [(values["name"], ("classes", index)) for index, values in arms["model"]["classes"].items()]
    rows = []
    for name, path in [*keys, ("mean", ("mean",))]:
        control = _number(_at(arms["control"], path)) if "control" in arms else ""
        rows.append((name, _number(_at(arms["model"], path)), control, _gain(_at(gain, path)) if gain else ""))
    return rows


def verdict(run: Path) -> str:
    """What the gain in mean Dice over the control amounts to, in words; empty without scores or control."""
    summary = _summary(run)
    if not summary.get("gain"):
        return ""
    dice = summary["gain"]["mean"]["dice"]
    chance = "" if dice["p"] is None else f", p = {dice['p']:.3g}"
    return f"{' against '.join(_compared(summary))}: {_gain(dice)} mean Dice{chance}: {dice['verdict']}"


def _summary(run: Path) -> dict[str, Any]:
    """The summary of the run's scores; empty without."""
    scores = run / "scores"
    return dict(read_json(scores / "summary.json")) if is_artifact(scores, "scores") else {}


def _compared(summary: Mapping[str, Any]) -> tuple[str, str]:
    """What sets the model and its control apart: pre-training, or where both began from scratch the regime."""
    arms = summary.get("segmenters", {})
    model, control = arms.get("model", {}), arms.get("control", {})
    if control and model.get("initialisation") == control.get("initialisation") == "scratch":
        return str(model.get("regime", "model")), str(control.get("regime", "control"))
    return "pre-training", "scratch"


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
