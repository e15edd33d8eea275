"""What a new patient may expect, by labelled patients who were left out in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabel.reporting.blocks import Block, Section, Table, Text
from fewlabel.reporting.inputs import Training
from fewlabel.reporting.words import between, count, number
from fewlabel.scoring.expected import EXPECTED_RULE

TITLE = "What to expect of a new patient"
CHOSEN = (
    "The length of the training was chosen on these patients too, which makes it a little optimistic on the other hand."
)


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
    others = count(len(first["subjects"]) - 1, "other")
    lead = f"{patients} left out in turn, each segmented by a network that was trained on the {others}."
    rows = [row for subject in first["subjects"] for row in _of_patient(subject, known)]
    head = ["Patient", "Class", "Network", "Dice", "HD95 mm"]
    strong = frozenset(index for index, row in enumerate(rows) if row[1] == "mean")
    note = (
        f"{EXPECTED_RULE} {CHOSEN}"
        if any(found["length_chosen_on_them"] for found in known.values())
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
    strong = set()
    first = next(iter(known.values()))
    for phase in ("", *first["phases"]):
        for key in (*first["classes"], "mean"):
            for name, found in known.items():
                values = found["phases"][phase] if phase else found
                entry = values["mean"] if key == "mean" else values["classes"][key]
                if key == "mean" and not phase:
                    strong.add(len(rows))
                dice, far = entry["dice"], entry["hd95_mm"]
                spread = [between(measure["low"], measure["high"], digits) for measure, digits in ((dice, 3), (far, 1))]
                label = "mean" if key == "mean" else str(entry["name"])
                means = number(dice["mean"]), spread[0], number(far["mean"], 1), spread[1]
                rows.append([label, phase or "all scans", name, *means])
    head = ["Class", "Scans", "Network", "Dice", "patients from to", "HD95 mm", "patients from to"]
    return Table(head, rows, "Mean and range over patients", frozenset({3, 4, 5, 6}), frozenset(strong))


def _of_patient(subject: str, known: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    rows = []
    first = next(iter(known.values()))
    for key in (*first["classes"], "mean"):
        for name, found in known.items():
            patient = found["subjects"][subject]
            entry = patient if key == "mean" else patient["classes"][key]
            label = "mean" if key == "mean" else str(found["classes"][key]["name"])
            rows.append([subject, label, name, number(entry["dice"]), number(entry["hd95_mm"], 1)])
    return rows
