"""The outcome of a run in a small table."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import is_artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.output_paths import RUN_FILE
from fewlabel.scoring.distance_units import named_as_usual, units_of
from fewlabel.scoring.statistics import useless_sentence
from fewlabel.stages.evaluate import gain_lines

#: Arm → its folder in a run.
FOLDERS = {"model": "segmenter", "control": "segmenter-control"}
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


def closing_lines(run: Path) -> list[str]:
    """What the run is worth and what ``predict`` uses: which of model and control is better, as far as that is known.

    Args:
        run: Folder made by ``train`` or ``demo``; without a segmenter there is nothing to say.
    """
    use = _use(run)
    facts = {arm: _facts(run / folder) for arm, folder in FOLDERS.items()}
    if not facts["model"]:
        return []
    arm = str(use.get("arm", "model"))
    lines = []
    expected = {name: (known.get("expected") or {}).get("mean", {}) for name, known in facts.items()}
    if not _summary(run) and expected[arm]:
        dice = expected[arm]["dice"]
        lines.append(f"Expect a Dice of about {dice['mean']:.2f} on a new patient (lowest left out {dice['low']:.2f}).")
    lines.append(_better(use, both=bool(facts["control"])))
    tested = _summary(run).get("arms", {}).get(arm, {}).get("mean", {}).get("dice", {})
    known_dice = tested.get("mean") if tested else (expected[arm] or {}).get("dice", {}).get("mean")
    if sentence := useless_sentence(known_dice):
        lines.append(sentence)
    return lines


def _better(use: Mapping[str, Any], *, both: bool) -> str:
    arm, reason = str(use.get("arm", "model")), str(use.get("reason", ""))
    if not both:
        return "There is no control to compare with; predict on the run folder uses the model."
    uses = f"predict on the run folder uses the {arm}"
    if use.get("by") is None:
        return f"Which of model and control is better cannot be told: {reason}; {uses}."
    return f"The {arm} is the better one ({reason}): {uses}."


def _use(run: Path) -> dict[str, Any]:
    path = run / RUN_FILE
    record = read_json(path) if path.is_file() else {}
    use = record.get("use") if isinstance(record, dict) else None
    return use if isinstance(use, dict) else {}


def _facts(segmenter: Path) -> dict[str, Any]:
    name = "segmenter.json"
    return dict(read_json(segmenter / name)) if (segmenter / name).is_file() else {}


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
