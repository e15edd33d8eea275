"""What a new patient may expect, from labelled patients who were left out in turn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

MEASURES = ("dice", "hd95_mm")
EXPECTED_RULE = (
    "Each labelled patient is segmented by one network that never saw the patient's labels: it is trained as the "
    "model is, on the others, with their own rule of post-processing. A patient's value is the mean over scans of the "
    "mean over classes; mean and range are over patients. One patient fewer to learn from makes it a little "
    "pessimistic; so few patients make it rough."
)


def expected_summary(table: pd.DataFrame, class_names: Mapping[int, str]) -> dict[str, Any]:
    """Mean and range over left-out patients.

    Args:
        table: A row per scan and class with columns ``subject``, ``case``, ``phase`` (empty where unknown), ``class``,
            ``dice`` in [0, 1] and ``hd95_mm`` (NaN where there is none).
        class_names: Class index to name, background left out.

    Returns:
        JSON-ready: ``mean`` → measure → {``mean``, ``low``, ``high``, each None where there is no value}; ``classes``
        → index → {``name``, measures as in ``mean``}; ``subjects`` → id → {``dice``, ``hd95_mm``, ``classes`` → index
        → {``dice``, ``hd95_mm``}}; ``lowest``, the patient of the lowest Dice; ``phases`` → name → {``mean``,
        ``classes``} where scans have phases, else empty.
    """
    phases = [str(name) for name in sorted(table["phase"].unique()) if name]
    subjects: dict[str, Any] = {
        str(subject): {
            **{key: _or_none(_of_patients(rows)[key].iloc[0]) for key in MEASURES},
            "classes": {
                str(index): {key: _or_none(rows.loc[rows["class"] == index, key].mean()) for key in MEASURES}
                for index in class_names
            },
        }
        for subject, rows in table.groupby("subject", sort=False)
    }
    return {
        **_over_patients(table, class_names),
        "subjects": subjects,
        "lowest": min(subjects, key=lambda subject: float(subjects[subject]["dice"])),
        "phases": {name: _over_patients(table[table["phase"] == name], class_names) for name in phases},
    }


def dice_of_subjects(table: pd.DataFrame) -> dict[str, float]:
    """Subject → Dice: the mean over its scans of the mean over classes, as in :func:`expected_summary`."""
    return {str(subject): float(value) for subject, value in _of_patients(table)["dice"].items()}


def _over_patients(table: pd.DataFrame, class_names: Mapping[int, str]) -> dict[str, Any]:
    classes = {
        str(index): {"name": name, **_ranges(_of_patients(table[table["class"] == index]))}
        for index, name in class_names.items()
    }
    return {"mean": _ranges(_of_patients(table)), "classes": classes}


def _of_patients(table: pd.DataFrame) -> pd.DataFrame:
    """A row per patient: the mean over scans of the mean over classes that have a value."""
    scans = table.groupby(["subject", "case"], sort=False)[list(MEASURES)].mean()
    return scans.groupby("subject", sort=False).mean()


def _ranges(patients: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    return {
        key: {
            "mean": _or_none(patients[key].mean()),
            "low": _or_none(patients[key].min()),
            "high": _or_none(patients[key].max()),
        }
        for key in MEASURES
    }


def _or_none(value: float) -> float | None:
    return None if pd.isna(value) else float(value)
