"""Differences between a model and its control in what a fair comparison keeps equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Fact of a segmenter → what it is called. What was compared on purpose (start, regime) is not among them.
EQUAL = {
    "labelled_subjects": "labelled patients",
    "architecture": "network",
    "members": "networks",
    "steps": "steps",
    "batch": "batch",
    "patch": "patch",
    "selection": "model selection",
}


#: The same for what is either done after training or not; a segmenter that does not state it had nothing done.
SWITCHED = {"postprocess": "post-processing", "recalibrated": "statistics from unlabelled slices"}


def differences(model: Mapping[str, Any], control: Mapping[str, Any]) -> list[str]:
    """Each fact in which they differ, with both values, e.g. ``steps (300 beside 500)``.

    Args:
        model: Content of a ``segmenter.json``.
        control: That of another. A fact that one of them does not state is not judged. Where the regimes differ, so
            may where statistics come from: a regime that sees unlabelled slices needs no others.
    """
    differing = []
    for key, name in EQUAL.items():
        ours, theirs = model.get(key), control.get(key)
        if key in model and key in control and ours != theirs:
            differing.append(f"{name} ({_word(ours, theirs)} beside {_word(theirs, ours)})")
    for key, name in SWITCHED.items():
        words = ["on" if facts.get(key) else "off" for facts in (model, control)]
        by_design = key == "recalibrated" and model.get("regime") != control.get("regime")
        if words[0] != words[1] and not by_design:
            differing.append(f"{name} ({' beside '.join(words)})")
    return differing


def _word(value: Any, other: Any) -> str:
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return ", ".join(f"{key} {value[key]}" for key in value if value[key] != other.get(key)) or "less"
    if isinstance(value, Sequence) and not isinstance(value, str):
        few = len(value) <= 3
        return ", ".join(map(str, value)) if few and value else str(len(value))
    return "none" if value is None else str(value)
