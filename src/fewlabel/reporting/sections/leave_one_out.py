"""What a new patient may expect, by labelled patients who were left out in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabel.reporting.blocks import Block, Section, Table, Text
from fewlabel.reporting.formatting import between, count, number
from fewlabel.reporting.inputs import Training
from fewlabel.reporting.sections.scores import by_class
from fewlabel.scoring.leave_one_out import EXPECTED_RULE

TITLE = "What to expect on a new patient"
CHOSEN = "The length of the training was chosen on these patients too, which in turn makes it a little optimistic."


def expected_section(arms: Mapping[str, Training | None]) -> Section | None:
    """Dice and HD95 of each left-out patient by class, and their mean and range; None where nobody was left out.

    Args:
        arms: Name of the arm to its training, the model first; None where there is none.
    """
    known = {name: dict(arm.facts["expected"]) for name, arm in arms.items() if arm and arm.facts.get("expected")}
    if not known:
        return None
    first = next(iter(known.values()))
    patients = count(len(first["subjects"]), "annotated patient")
    others = "other one" if len(first["subjects"]) == 2 else f"other {len(first['subjects']) - 1}"
    lead = f"{patients} were left out in turn, each segmented by a network trained on the {others}."
    rows = [row for subject in first["subjects"] for row in _of_patient(subject, known)]
    head = ["Patient", "Class", "Network", "Dice", "HD95 mm"]
    strong = frozenset(index for index, row in enumerate(rows) if row[1] == "mean")
    note = (
        f"{EXPECTED_RULE} {CHOSEN}"
        if any(facts["length_chosen_on_them"] for facts in known.values())
        else EXPECTED_RULE
    )
    blocks: list[Block] = [
        _over_patients(known),
        Table(head, rows, "By patient and class", frozenset({3, 4}), strong),
        Text(note, "note"),
    ]
    return Section("expected", TITLE, lead, blocks)


def _over_patients(known: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row per class and arm, over all scans and, where scans have phases, by phase."""
    rows: list[list[str]] = []
    phases = ("", *next(iter(known.values()))["phases"])
    for phase in phases:
        arms = {name: facts["phases"][phase] if phase else facts for name, facts in known.items()}
        for label, name, entry in by_class(arms):
            dice, far = entry["dice"], entry["hd95_mm"]
            values = number(dice["mean"]), between(dice["low"], dice["high"])
            values_mm = number(far["mean"], 1), between(far["low"], far["high"], 1)
            rows.append([label, phase or "all scans", name, *values, *values_mm])
    overall = len(rows) // len(phases)
    means = frozenset(range(overall - len(known), overall))
    head = ["Class", "Scans", "Network", "Dice", "range", "HD95 mm", "range"]
    return Table(head, rows, "Mean and range over patients", frozenset({3, 4, 5, 6}), means)


def _of_patient(subject: str, known: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """A row per class and arm."""
    arms = {}
    for name, facts in known.items():
        patient = facts["subjects"][subject]
        classes = {key: {"name": facts["classes"][key]["name"], **values} for key, values in patient["classes"].items()}
        arms[name] = {"classes": classes, "mean": patient}
    return [
        [subject, label, name, number(entry["dice"]), number(entry["hd95_mm"], 1)]
        for label, name, entry in by_class(arms)
    ]
