"""What everybody is to know: figures by hand, sentences that follow from them, sections that vanish with their data."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewlabel.reporting.blocks import Section, Table, Text
from fewlabel.reporting.comparison import short_names
from fewlabel.reporting.figures.volumes import agreement_figure, limits_of_agreement
from fewlabel.reporting.sections.next_steps import next_section
from fewlabel.reporting.sections.quality_by_structure import failures, structure_section
from fewlabel.reporting.sections.rounds import rounds_section
from fewlabel.reporting.sections.volumes import stray_section, volume_section
from fewlabel.reporting.unseen_scores import UnseenScores
from fewlabel.scoring.distance_units import Units
from fewlabel.scoring.thirds import COLUMNS as THIRDS


def scores(dice: dict[str, list[float]], *, left_out: bool = True, **columns: Any) -> UnseenScores:
    """Structure → Dice of scans; two scans of patient a, the others of a patient each."""
    count = len(next(iter(dice.values())))
    owners = ["a", "a", "b", "c", "d"][:count]
    rows = [
        {"subject": owners[place], "case": f"scan{place}", "class": index, "class_name": name, "dice": value}
        for index, (name, values) in enumerate(dice.items(), start=1)
        for place, value in enumerate(values)
    ]
    usual = {"hd95_mm": 5.0, "missed": 0, "reference_ml": 10.0, "predicted_ml": 12.0, "stray": 0, "stray_ml": 0.0}
    table = pd.DataFrame(rows).assign(**dict.fromkeys(THIRDS, np.nan)).assign(**{**usual, **columns})
    return UnseenScores(table, left_out, Units())


def words(section: Section | None) -> str:
    assert section is not None
    texts = [item.text for item in section.blocks if isinstance(item, Text)]
    cells = [" ".join(row) for item in section.blocks if isinstance(item, Table) for row in item.rows]
    return "\n".join([section.title, section.lead, *texts, *cells])


def test_means_are_over_patients_where_these_were_left_out_and_over_scans_otherwise() -> None:
    values = {"RV": [0.2, 0.4, 0.9]}
    assert "RV 0.600 0.200" in words(structure_section(scores(values)))
    assert "RV 0.500 0.200" in words(structure_section(scores(values, left_out=False)))
    assert "never met its labels" in words(structure_section(scores(values)))
    assert "test part" in words(structure_section(scores(values, left_out=False)))


def test_what_fails_and_where_is_said() -> None:
    told = scores({"RV": [0.05, 0.05, 0.05], "LV": [0.9, 0.9, 0.9], "myo": [0.4, 0.4, 0.4]})
    told.table.loc[told.table["class_name"] == "LV", list(THIRDS)] = [0.95, 0.9, 0.7]
    assert failures(told) == [
        "Not found: RV, mean Dice 0.05.",
        "Uneven: LV, mean Dice 0.90, weakest in the last third of the slices (Dice 0.70).",
        "Found poorly: myo, mean Dice 0.40.",
    ]
    assert failures(scores({"RV": [0.9, 0.9]}))[0].startswith("No structure fails")
    assert "apex" in words(structure_section(told))
    assert "apex" not in words(structure_section(scores({"RV": [0.9, 0.9]})))
    assert "by eye" in words(structure_section(None))


def test_limits_of_agreement_by_hand() -> None:
    mean, low, high = limits_of_agreement(np.array([-1.0, 0.0, 4.0]))
    assert mean == pytest.approx(1)
    assert (low, high) == (pytest.approx(1 - 1.96 * np.sqrt(7)), pytest.approx(1 + 1.96 * np.sqrt(7)))
    picture = agreement_figure("LV", np.array([10.0, 20.0]), np.array([12.0, 19.0]), "ml", ["x", "y"])
    assert "on average +0.5 ml; farthest off x" in picture.alt
    assert "limits" not in picture.alt


def test_volumes_and_stray_objects_vanish_where_they_are_unknown() -> None:
    unknown = scores({"RV": [0.9, 0.9]}, reference_ml=np.nan, stray=np.nan)
    assert volume_section(unknown) is None
    assert stray_section(unknown) is None
    assert "2 scans are too few" in words(volume_section(scores({"RV": [0.9, 0.9]})))
    assert "No prediction has a piece" in words(stray_section(scores({"RV": [0.9, 0.9]})))
    found = stray_section(scores({"RV": [0.9, 0.8, 0.7]}, stray=[0, 2, 1], stray_ml=[0.0, 1.5, 3.0]))
    assert "3 pieces of predictions, in 2 of 3 scans" in words(found)
    assert words(found).index("scan2 1 3.0") < words(found).index("scan1 2 1.5")


@pytest.mark.parametrize(
    ("dice", "told"),
    [
        ([0.02, 0.03], "of no use yet"),
        ([0.6, 0.6], "fewlabel suggest RUN"),
        ([0.93, 0.92], "good on most scans"),
    ],
)
def test_what_to_do_next_follows_from_the_scores(dice: list[float], told: str) -> None:
    inputs: Any = SimpleNamespace(used=SimpleNamespace(facts={"labelled_subjects": ["a", "b"]}))
    text = words(next_section(inputs, scores({"RV": dice}), "RUN"))
    assert told in text
    assert f"Look at scan{int(np.argmin(dice))} first" in text
    assert "rough guide" in text
    alone: Any = SimpleNamespace(used=SimpleNamespace(facts={"labelled_subjects": ["a"]}))
    assert "cannot be known from one annotated patient" in words(next_section(alone, None, "RUN"))


def test_a_round_has_a_row() -> None:
    assert rounds_section([]) is None
    record = {
        "round": 2,
        "masks": {"p3": {"kind": "new"}},
        "taken": False,
        "scores": {
            "left_out": {"before": {"a": 0.5, "b": 0.7}, "after": {"a": 0.4, "b": 0.6}},
            "unseen": {"c": 0.3},
            "validation": {"before": None, "after": None},
        },
    }
    assert "2 p3 (new) 0.300 0.600 0.500 no, it was worse" in words(rounds_section([record]))


def test_runs_are_called_by_what_tells_them_apart() -> None:
    assert short_names(["/a/run", "/b/run", "/c/other"]) == ["a/run", "b/run", "other"]
    assert short_names(["/a/run", "/a/run"])[0] != short_names(["/a/run", "/a/run"])[1]
