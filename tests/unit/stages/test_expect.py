"""When labelled patients are left out, how a scan of theirs is scored, and what is said of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.protocol.splits import LabelDraw
from fewlabel.stages.finetune.leave_one_out import case_rows, labelled_cases
from fewlabel.stages.finetune.leave_one_out_choice import choose_expectation, expectation_lines, nothing_else_tells
from kit.stores import FILES, make_store

NAMES = tuple(f"patient{number:03d}" for number in range(1, 9))
HELD = NAMES[5:]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    """A store without labels for validation and test."""
    folder = tmp_path_factory.mktemp("bare") / "prepared"
    return PreparedStore(make_store(folder, subjects=8, depth=3, size=(16, 16), unlabelled=HELD))


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    return PreparedStore(make_store(tmp_path_factory.mktemp("rich") / "p", subjects=8, depth=3, size=(16, 16)))


def draw(count: int) -> LabelDraw:
    return LabelDraw(NAMES[:count], (NAMES[5],))


def test_patients_are_left_out_where_they_are_few_and_nothing_else_tells(bare: Any, rich: Any) -> None:
    def asked(count: int, store: Any = bare, how: Any = "auto", selection: Any = "none", seen: Any = ()) -> bool:
        return choose_expectation(how, draw(count), selection, store, seen)

    assert [asked(count) for count in range(1, 6)] == [False, True, True, True, False]
    assert not asked(3, rich)
    # Where the selection leaves them out anyhow, it costs nothing more.
    assert asked(5, rich, selection="leave_one_out")
    assert not asked(3, selection="held_out", how="never")
    assert not asked(3, seen=NAMES[:1])
    assert asked(5, rich, how="always")


def test_labels_of_validation_alone_or_of_the_test_alone_tell_something(tmp_path: Path) -> None:
    for name, unlabelled in (("validation", NAMES[6:]), ("test", NAMES[5:6])):
        store = PreparedStore(make_store(tmp_path / name, subjects=8, depth=2, size=(16, 16), unlabelled=unlabelled))
        assert not nothing_else_tells(store, LabelDraw(NAMES[:2], ()))


def test_what_cannot_be_is_refused_all_at_once(bare: Any) -> None:
    with pytest.raises(SettingsError) as caught:
        choose_expectation("always", draw(1), "none", bare, NAMES[:1])
    told = str(caught.value)
    assert "expect: needs at least two labelled patients to leave one out, not 1" in told
    assert "whose labels the encoder learnt from: patient001" in told
    assert "Use expect=never" in told


def test_a_scan_is_scored_on_the_prepared_grid_in_mm_and_by_its_phase(tmp_path: Path) -> None:
    folder = make_store(tmp_path / "prepared", subjects=3, depth=3, size=(16, 16))
    cases = read_json(folder / "cases.json")
    # Axis 2 of the file runs across the slices: they are 9 mm apart.
    write_json(
        folder / "cases.json", [{**case, "record": {"spacing": [2, 3, 9.0], "axes": [2, 0, 1]}} for case in cases]
    )
    plan = read_json(folder / "plan.json")
    columns = [{"name": "phase", "values": ["ED", "ES"]}]
    write_json(folder / "plan.json", {**plan, "spacing": [1.5, 1.5], "columns": columns})
    labels = np.load(folder / "labels.npy")
    labels[:] = 0
    labels[:, 4:8, 4:8] = 1
    labels[0, 4, 4] = 255
    np.save(folder / "labels.npy", labels)
    finish_artifact(folder, "prepared", FILES)
    store = PreparedStore(folder)
    first, second = labelled_cases(store, ("patient001",))
    shifted = np.zeros((first.stop - first.start, 16, 16), np.uint8)
    shifted[:, 4:8, 5:9] = 1
    rows = case_rows(store, first, shifted)
    assert [row["phase"] for row in (rows[0], case_rows(store, second, shifted)[0])] == ["ED", "ES"]
    assert (rows[0]["case"], rows[0]["class"], rows[0]["class_name"]) == ("patient001_phase0", 1, "right ventricle")
    assert rows[0]["hd95_mm"] == pytest.approx(1.5)
    depth, lost = len(shifted), 1
    assert rows[0]["dice"] == pytest.approx(2 * 12 * depth / (16 * depth + 16 * depth - lost))
    # Nothing of the others is there or found.
    assert (rows[1]["dice"], rows[1]["hd95_mm"], rows[1]["missed"]) == (1.0, None, False)
    # What is not annotated counts for nothing, even where something was found.
    shifted[0, 4, 4] = 2
    assert case_rows(store, first, shifted)[1]["invented"] is False


def test_without_geometry_there_is_no_distance(bare: PreparedStore) -> None:
    case = labelled_cases(bare, NAMES[:1])[0]
    rows = case_rows(bare, case, np.array(bare.labels[case.start : case.stop]))
    assert [(row["dice"], row["hd95_mm"]) for row in rows] == [(1.0, None)] * 3


def test_what_is_said() -> None:
    expected = {
        "mean": {"dice": {"mean": 0.614, "low": 0.43, "high": 0.7}, "hd95_mm": {"mean": 12.34, "low": 9, "high": 20}},
        "subjects": {"a": {}, "b": {}, "c": {}},
        "length_chosen_on_them": False,
    }
    assert expectation_lines(expected) == [
        "Expect a Dice of about 0.61 (lowest patient 0.43) and an HD95 of about 12.3 mm;",
        "from 3 patients left out in turn, each trained on 2: a little pessimistic.",
    ]
    assert "chosen on them too" in expectation_lines({**expected, "length_chosen_on_them": True})[1]
    expected["mean"]["hd95_mm"] = {"mean": None, "low": None, "high": None}  # type: ignore[index]
    assert expectation_lines(expected, control=True) == [
        "Of the control, in the same way: a Dice of about 0.61 (lowest patient 0.43)."
    ]
