"""What the report says where no test scan was scored: left-out patients, unlabelled scans, the network in use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fewlabel.data.store import PreparedStore
from fewlabel.reporting.blocks import Strip, Table, Text
from fewlabel.reporting.inputs import Inputs, Training
from fewlabel.reporting.sections.headline import headline
from fewlabel.reporting.sections.leave_one_out import expected_section
from fewlabel.reporting.sections.scores import score_section
from fewlabel.reporting.sections.unlabelled_predictions import ShownScan, unlabelled_section
from fewlabel.scoring.leave_one_out import expected_summary
from fewlabel.stages._scans_to_show import SURVEYED, candidates, shown_scans
from kit.stores import make_store

NAMES = {1: "wall", 2: "cavity"}


def arm(folder: Path, lift: float = 0.0, **facts: Any) -> Training:
    rows = [
        (subject, f"{subject}_{phase}", phase, index, 0.1 * number + 0.1 * index + lift, 10.0 * index)
        for number, subject in enumerate(("a", "b", "c"), start=1)
        for phase in ("ED", "ES")
        for index in NAMES
    ]
    table = pd.DataFrame(rows, columns=["subject", "case", "phase", "class", "dice", "hd95_mm"])
    expected = {"length_chosen_on_them": False, **expected_summary(table, NAMES)}
    known = {"labelled_subjects": ["a", "b", "c"], "labelled_slices": 9, "initialisation": "scratch"}
    return Training(folder, {**known, "expected": expected, **facts}, [])


def use(name: str) -> dict[str, Any]:
    return {"arm": name, "reason": "mean Dice 0.350, control 0.450, by left-out patients", "content": {"control": "x"}}


def test_every_patient_and_class_has_a_row_beside_the_controls(tmp_path: Path) -> None:
    section = expected_section({"model": arm(tmp_path), "control": arm(tmp_path, 0.1)})
    assert section is not None
    assert section.lead == (
        "3 annotated patients were left out in turn, each segmented by a network trained on the other 2."
    )
    over, each = (block for block in section.blocks if isinstance(block, Table))
    assert len(each.rows) == 3 * 3 * 2
    assert each.rows[0] == ["a", "wall", "model", "0.200", "10.0"]
    assert each.rows[1] == ["a", "wall", "control", "0.300", "10.0"]
    assert each.rows[4] == ["a", "mean", "model", "0.250", "15.0"]
    assert sorted(each.strong) == [4, 5, 10, 11, 16, 17]
    assert len(over.rows) == 3 * 3 * 2
    assert over.rows[4] == ["mean", "all scans", "model", "0.350", "0.250 to 0.450", "15.0", "15.0 to 15.0"]
    assert over.strong == {4, 5}
    assert [row[1] for row in over.rows[6:]] == ["ED"] * 6 + ["ES"] * 6
    chosen = arm(tmp_path)
    chosen.facts["expected"]["length_chosen_on_them"] = True
    notes = [
        [block.text for block in made.blocks if isinstance(block, Text)]
        for made in (section, expected_section({"model": chosen}))
        if made
    ]
    assert ["chosen on these patients" in note[0] for note in notes] == [False, True]


def test_nobody_left_out_leaves_no_section(tmp_path: Path) -> None:
    assert expected_section({"model": Training(tmp_path, {"expected": None}, []), "control": None}) is None
    assert expected_section({"model": Training(tmp_path, {}, [])}) is None


def test_the_headline_says_what_to_expect(tmp_path: Path) -> None:
    found = headline(Inputs(segmenter=arm(tmp_path), control=arm(tmp_path, 0.1), use=use("model")))
    assert "On a new patient, expect a mean Dice of about 0.35 and a mean HD95 of about 15.0 mm" in found.sentence
    assert "3 annotated patients who were left out in turn, with 2 to learn from each time" in found.sentence
    assert "The worst, a, reached 0.25." in found.sentence
    assert found.sentence.endswith(
        "On this run, fewlabel predict uses the model: mean Dice 0.350, control 0.450, by left-out patients."
    )
    assert found.figures[0] == ("0.350", "expected mean Dice", "control 0.450; patients 0.250 to 0.450")
    found = headline(Inputs(segmenter=arm(tmp_path), control=arm(tmp_path, 0.1), use=use("control")))
    assert "expect the control to reach a mean Dice of about 0.45" in found.sentence
    assert found.figures[0] == ("0.450", "expected mean Dice", "model 0.350; patients 0.350 to 0.550")
    alone = headline(Inputs(segmenter=arm(tmp_path)))
    assert alone.figures[1] == ("15.0 mm", "expected mean HD95", "patients 15.0 to 15.0")
    assert "fewlabel predict" not in alone.sentence


def test_the_headline_with_one_patient_says_that_nothing_is_known(tmp_path: Path) -> None:
    one = arm(tmp_path, labelled_subjects=["a"], expected=None)
    assert "cannot be estimated from one annotated patient" in headline(Inputs(segmenter=one)).sentence
    two = arm(tmp_path, expected=None)
    assert "nothing can be said" in headline(Inputs(segmenter=two)).sentence


def test_quality_points_to_left_out_patients() -> None:
    for left_out, words in ((True, "left out in turn"), (False, "Quality can only be measured")):
        (block,) = score_section(None, model="model", control="control", left_out=left_out).blocks
        assert isinstance(block, Text)
        assert words in block.text


# Unlabelled scans.


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    return PreparedStore(
        make_store(tmp_path_factory.mktemp("shown") / "prepared", subjects=12, depth=4, size=(16, 16), phases=2)
    )


def test_only_training_scans_whose_labels_were_not_seen_are_candidates(store: PreparedStore) -> None:
    found = candidates(store, {"patient001", "patient002"})
    assert {case.subject for case in found} == {f"patient{number:03d}" for number in range(3, 9)}
    assert len(found) == 12 <= SURVEYED
    assert candidates(store, store.split["parts"]["train"]) == []


def test_scans_are_spread_from_the_least_to_the_most_sure(store: PreparedStore) -> None:
    cases = candidates(store, ())[:9]
    sure = dict(zip((case.id for case in cases), (0.5, 0.9, 0.3, 0.8, 0.7, None, 0.6, 0.4, 0.95), strict=True))

    def predict(case: Any) -> tuple[Any, Any]:
        shape = (case.stop - case.start, 16, 16)
        classes = np.zeros(shape, np.uint8)
        value = sure[case.id]
        probabilities = np.full(shape, 0.99, np.float32)
        if value is not None:
            classes[1:3, 4:8, 4:8] = 1
            probabilities[classes > 0] = value
        return classes, probabilities

    found = shown_scans(store, cases, predict, 5)
    assert [scan.place for scan in found] == [1, 3, 5, 7, 9]
    assert found[0].confidence is None
    assert [scan.confidence for scan in found[1:]] == pytest.approx([0.4, 0.6, 0.8, 0.95])
    assert [sure[scan.id] for scan in found[1:]] == [0.4, 0.6, 0.8, 0.95]
    assert len(shown_scans(store, cases, predict, 20)) == 9
    assert shown_scans(store, [], predict, 5) == []


def test_a_strip_for_each_scan_or_words(store: PreparedStore) -> None:
    mask = np.zeros((6, 32, 32), np.uint8)
    mask[1:5, 8:20, 8:20] = 1
    images = np.random.default_rng(0).random((6, 32, 32)).astype(np.float32)
    scans = [
        ShownScan("p1", 1, images, np.zeros_like(mask), None),
        ShownScan("p2", 9, images, mask, 0.876),
    ]
    section = unlabelled_section(scans, 9, ["background", "wall"], "from scratch")
    nothing, found = (block for block in section.blocks if isinstance(block, Strip))
    assert nothing.subtitle == "nothing found, 1 of 9 by confidence"
    assert (found.title, found.subtitle) == ("p2", "confidence 0.88, 9 of 9 by confidence")
    assert [tile.caption for tile in found.items] == ["slice 2 of 6", "slice 4 of 6", "slice 5 of 6"]
    assert len(nothing.items) == 3
    assert "2 of 9 predicted scans" in section.lead
    assert "wall blue" in section.lead
    (block,) = unlabelled_section([], 0, ["background"], "x").blocks
    assert isinstance(block, Text)
    assert "no other scan to show" in block.text
