"""Mean and range over left-out patients."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest

from fewlabel.scoring.leave_one_out import dice_of_subjects, expected_summary

NAMES = {1: "cavity", 2: "wall"}


def table(*rows: tuple[str, str, str, int, float, float]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["subject", "case", "phase", "class", "dice", "hd95_mm"])


def test_a_patient_counts_once_whatever_its_scans() -> None:
    found = expected_summary(
        table(
            ("a", "a1", "ED", 1, 0.8, 4.0), ("a", "a1", "ED", 2, 0.6, 8.0),
            ("a", "a2", "ES", 1, 0.4, 10.0), ("a", "a2", "ES", 2, 0.2, 20.0),
            ("b", "b1", "ED", 1, 1.0, 2.0), ("b", "b1", "ED", 2, 0.9, 4.0),
        ),
        NAMES,
    )  # fmt: skip
    assert found["mean"]["dice"] == pytest.approx({"mean": (0.5 + 0.95) / 2, "low": 0.5, "high": 0.95})
    assert found["mean"]["hd95_mm"] == pytest.approx({"mean": (10.5 + 3) / 2, "low": 3.0, "high": 10.5})
    assert found["classes"]["2"]["name"] == "wall"
    assert found["classes"]["2"]["dice"] == pytest.approx({"mean": (0.4 + 0.9) / 2, "low": 0.4, "high": 0.9})
    assert found["lowest"] == "a"
    assert found["subjects"]["a"]["dice"] == pytest.approx(0.5)
    assert found["subjects"]["a"]["classes"]["1"] == pytest.approx({"dice": 0.6, "hd95_mm": 7.0})
    assert list(found["phases"]) == ["ED", "ES"]
    assert found["phases"]["ED"]["mean"]["dice"] == pytest.approx({"mean": (0.7 + 0.95) / 2, "low": 0.7, "high": 0.95})
    assert found["phases"]["ES"]["classes"]["1"]["dice"] == pytest.approx({"mean": 0.4, "low": 0.4, "high": 0.4})


def test_distances_that_nobody_has_are_none_and_scans_without_a_phase_stand_alone() -> None:
    nan = math.nan
    found = expected_summary(table(("a", "a1", "", 1, 1.0, nan), ("b", "b1", "", 1, 0.5, nan)), {1: "cavity"})
    assert found["mean"]["hd95_mm"] == {"mean": None, "low": None, "high": None}
    assert found["subjects"]["b"] == {"dice": 0.5, "hd95_mm": None, "classes": {"1": {"dice": 0.5, "hd95_mm": None}}}
    assert found["phases"] == {}
    json.dumps(found, allow_nan=False)


def test_a_distance_that_one_class_lacks_is_left_out_of_the_mean() -> None:
    found = expected_summary(table(("a", "a1", "", 1, 1.0, math.nan), ("a", "a1", "", 2, 0.5, 6.0)), NAMES)
    assert found["subjects"]["a"]["hd95_mm"] == 6.0
    assert found["subjects"]["a"]["classes"]["1"]["hd95_mm"] is None


def test_the_dice_of_each_patient_is_that_of_the_summary() -> None:
    rows = table(
        ("a", "a1", "ED", 1, 0.8, 4.0), ("a", "a1", "ED", 2, 0.6, 8.0), ("a", "a2", "ES", 1, 0.2, 9.0),
        ("b", "b1", "ED", 1, 1.0, 2.0),
    )  # fmt: skip
    found = dice_of_subjects(rows)
    assert found == pytest.approx({"a": (0.7 + 0.2) / 2, "b": 1.0})
    assert found == {name: kept["dice"] for name, kept in expected_summary(rows, NAMES)["subjects"].items()}


def test_patients_with_numbers_for_names_have_them_as_text() -> None:
    rows = table(("a", "a1", "", 1, 0.5, 4.0)).assign(subject=7)
    assert dice_of_subjects(rows) == {"7": 0.5}
