"""The outcome of a run in a small table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import is_artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.scoring.distance_units import named_as_usual, units_of
from fewlabel.stages.evaluate import gain_lines

#: Measure → its digits and its head.
_MEASURES = {"dice": (3, "Dice"), "hd95_mm": (1, "HD95 {distance}")}


def heads(run: Path) -> list[str]:
    """Heads of the columns of :func:`outcome`."""
    summary = _summary(run)
    columns = ["structure"]
    for key, (_, name) in _measured(summary).items():
        columns += [name.format(distance=units_of(summary).distance), *_beside(summary, "control")]
        if key == "dice":
            columns += _beside(summary, "gain (interval)")
    return columns


def outcome(run: Path) -> list[list[str]]:
    """Rows: a class, mean Dice of model and control with the gain, mean HD95 of both; last the mean over classes.

    Args:
        run: Folder made by ``train`` or ``demo``; without scores there are no rows, without distances no HD95.
    """
    summary = _summary(run)
    if not summary:
        return []
    keys = [(values["name"], ("classes", index)) for index, values in summary["arms"]["model"]["classes"].items()]
    rows = []
    for name, path in [*keys, ("mean", ("mean",))]:
        row = [str(name)]
        for key, (digits, _) in _measured(summary).items():
            row += [_number(_at(arm, path, key), digits) for arm in summary["arms"].values()]
            if key == "dice" and summary["gain"]:
                row.append(_gain(_at(summary["gain"], path, key)))
        rows.append(row)
    return rows


def verdict(run: Path) -> str:
    """What the gains in Dice and HD95 over the control amount to, line by line; empty without scores or control."""
    summary = _summary(run)
    if not summary.get("gain"):
        return ""
    return "\n  ".join(
        [f"{' against '.join(_compared(summary))}:", *gain_lines(summary["gain"]["mean"], units_of(summary))]
    )


def _summary(run: Path) -> dict[str, Any]:
    """The summary of the run's scores; empty without."""
    scores = run / "scores"
    return dict(named_as_usual(read_json(scores / "summary.json"))) if is_artifact(scores, "scores") else {}


def _measured(summary: Mapping[str, Any]) -> dict[str, tuple[int, str]]:
    """The measures that any class of the model has a value of; Dice always."""
    classes = summary["arms"]["model"]["classes"].values() if summary else ()
    return {
        key: known
        for key, known in _MEASURES.items()
        if key == "dice" or any(values[key]["mean"] is not None for values in classes)
    }


def _beside(summary: Mapping[str, Any], head: str) -> list[str]:
    return [head] if summary.get("gain") else []


def _compared(summary: Mapping[str, Any]) -> tuple[str, str]:
    """What sets the model and its control apart: pre-training, or where both began from scratch the regime."""
    arms = summary.get("segmenters", {})
    model, control = arms.get("model", {}), arms.get("control", {})
    if control and model.get("initialisation") == control.get("initialisation") == "scratch":
        return str(model.get("regime", "model")), str(control.get("regime", "control"))
    return "pre-training", "scratch"


def _at(tree: Mapping[str, Any], path: tuple[str, ...], measure: str) -> Mapping[str, Any]:
    for key in path:
        tree = tree[key]
    values: Mapping[str, Any] = tree[measure]
    return values


def _number(values: Mapping[str, Any], digits: int) -> str:
    return "" if values["mean"] is None else f"{values['mean']:.{digits}f}"


def _gain(values: Mapping[str, Any]) -> str:
    if values["mean"] is None:
        return ""
    interval = "" if values["low"] is None else f" ({values['low']:+.3f} to {values['high']:+.3f})"
    return f"{values['mean']:+.3f}{interval}"
