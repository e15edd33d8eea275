"""What is told of splits that do not fit, word for word: where, what, and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.protocol.splits import draw_labels, make_split
from fewlabel.protocol.user_split_file import PARTS, read_split_file
from kit.catalogs import catalog, names

PATIENTS = {"train": ["s00", "s01"], "validation": ["s02"], "test": ["s03"]}


def told(path: Path, content: Any) -> list[str]:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError) as caught:
        read_split_file(catalog(names(5)), path)
    return [str(fault) for fault in caught.value.faults]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.json"


def test_a_whole_file_is_read_as_it_is(path: Path) -> None:
    draws = {"1": [{"labelled": ["s01"]}], "2": [{"labelled": ["s00", "s01"], "validation": []}]}
    path.write_text(json.dumps({"parts": {**PATIENTS, "pretrain": ["s04", "s04"]}, "draws": draws}))
    found = read_split_file(catalog(names(5)), path)
    assert found["name"] == "mine"
    assert found["parts"] == {**PATIENTS, "pretrain": ["s04"]}
    assert found["draws"]["1"] == [{"labelled": ["s01"], "validation": ["s02"]}]
    assert found["draws"]["2"] == [{"labelled": ["s00", "s01"], "validation": []}]
    path.write_text(json.dumps({"name": 7, "parts": {}}))
    assert read_split_file(catalog(names(5)), path) == {"name": "7", "parts": {}, "draws": {}}


SHAPE = 'A split file holds {"parts": {"train": [...], "validation": [...], "test": [...]}}.'


@pytest.mark.parametrize("content", ["[1]", "{}", '{"parts": []}', "3"])
def test_another_shape(path: Path, content: str) -> None:
    assert told(path, content) == [f"{path} holds {json.dumps(json.loads(content))}. {SHAPE}"]


def test_what_is_no_json(path: Path) -> None:
    (fault,) = told(path, "{")
    assert fault.startswith(f"{path} is not a readable JSON file (")
    assert fault.endswith(f"). {SHAPE}")
    with pytest.raises(DataError, match="is not a readable JSON file"):
        read_split_file(catalog(names(2)), path.with_name("gone.json"))


@pytest.mark.parametrize(("length", "cut"), [(110, False), (114, False), (115, True), (116, True), (300, True)])
def test_long_content_is_shown_in_part(path: Path, length: int, cut: bool) -> None:
    content = json.dumps([["é" * length]], ensure_ascii=False)
    (fault,) = told(path, content)
    assert len(content) > 120 or not cut
    wanted = f"{path} holds {content}. {SHAPE}" if not cut else f"{path} holds {content[:117]}... {SHAPE}"
    assert fault == wanted


def test_parts_and_their_subjects(path: Path) -> None:
    parts = {"trian": [], "train": "s00", "test": ["s3", True], "validation": [7]}
    assert told(path, {"parts": parts}) == [
        f'{path}: unknown part "trian". Did you mean train?',
        f'{path}: part train must be a list of subjects, not "s00". Write [...].',
        f'{path}: part test must be a list of subjects, not ["s3", true]. Write [...].',
        f"{path}: 7 of part validation is not in the data set. See the subjects that check lists.",
    ]


def test_draws_of_another_shape(path: Path) -> None:
    def wrong(draws: Any) -> list[str]:
        return told(path, {"parts": PATIENTS, "draws": draws})

    remedy = 'Write them like {"1": [{"labelled": ["p01"]}]}.'
    assert wrong([1]) == [f"{path}: draws must map how many are labelled to a list of draws, not be [1]. {remedy}"]
    for key in ("0", "one", "01", "-1", "1.0"):
        problem = f'draws must be named by how many are labelled, from 1, not "{key}"'
        assert wrong({key: [{"labelled": ["s00"]}]}) == [f"{path}, draws: {problem}."]
    for rows in ([], {}, 3):
        problem = f"draws of 1 must be a list of one or more, not {json.dumps(rows)}"
        assert wrong({"1": rows}) == [f"{path}, draws: {problem}."]
    draw = 'Write {"labelled": [...]}, and "validation": [...] if it is not the whole validation part.'
    for row in (3, {}, {"labelled": "s00"}, {"labelled": ["s00"], "validation": "s02"}):
        found = wrong({"1": [{"labelled": ["s00"]}, row]})
        assert found == [f"{path}, draw 1 of 1: {json.dumps(row)} is not a draw. {draw}"]


@pytest.mark.parametrize(
    ("count", "labelled", "shown"),
    [("1", [], "none"), ("1", ["s00", "s01"], "s00, s01"), ("2", ["s00", "s00"], "s00, s00"), ("1", ["s03"], "s03")],
)
def test_a_draw_names_so_many_of_the_train_part(path: Path, count: str, labelled: list[str], shown: str) -> None:
    problem = f"a draw of {count} must name that many subjects of the train part, not {shown}"
    assert told(path, {"parts": PATIENTS, "draws": {count: [{"labelled": labelled}]}}) == [f"{path}: {problem}."]


def test_a_draw_validates_on_the_validation_part(path: Path) -> None:
    draws = {"1": [{"labelled": ["s00"], "validation": ["s02", "s03", "s04"]}]}
    wanted = f"{path}: s03, s04 of a draw must be in the validation part."
    assert told(path, {"parts": PATIENTS, "draws": draws}) == [wanted]
    # Without that part nobody may be named; of one that is wrong itself nothing more is said.
    parts: dict[str, Any] = {"train": ["s00"]}
    assert told(path, {"parts": parts, "draws": {"1": [{"labelled": ["s00"], "validation": ["s02"]}]}}) == [
        f"{path}: s02 of a draw must be in the validation part."
    ]
    wrong = told(path, {"parts": {**parts, "validation": 3}, "draws": draws})
    assert wrong == [f"{path}: part validation must be a list of subjects, not 3. Write [...]."]


def test_of_a_train_part_that_is_wrong_itself_draws_say_no_more(path: Path) -> None:
    draws = {"1": [{"labelled": ["s00"]}]}
    wrong = told(path, {"parts": {"train": 3}, "draws": draws})
    assert wrong == [f"{path}: part train must be a list of subjects, not 3. Write [...]."]
    missing = told(path, {"parts": {}, "draws": draws})
    assert missing == [f"{path}: a draw of 1 must name that many subjects of the train part, not s00."]


SPLIT = {"name": "mine", "parts": {"train": ["a1", "b9"], "validation": ["c3"], "test": ["d4", "c3"]}}


def test_subjects_outside_of_the_train_part() -> None:
    with pytest.raises(DataError) as caught:
        draw_labels(SPLIT, subjects=["d4", "c3", "a2", "nobody at all"])
    assert caught.value.message == "These subjects cannot be used as labelled:"
    remedy = "Choose subjects of the train part of split.json."
    assert [str(fault) for fault in caught.value.faults] == [
        f"subjects: d4 must be in the train part, but is in test. {remedy}",
        f"subjects: c3 must be in the train part, but is in validation and test. {remedy}",
        "subjects: a2 must be in the train part, but is in no part. Did you mean a1?",
        f"subjects: nobody at all must be in the train part, but is in no part. {remedy}",
    ]
    with pytest.raises(DataError) as caught:
        draw_labels(SPLIT, subjects=[])
    assert [str(fault) for fault in caught.value.faults] == [
        "subjects: at least one labelled subject is needed, but none is given."
    ]


def test_a_number_or_subjects() -> None:
    assert draw_labels(SPLIT, 1, subjects=["b9", "b9"]).labelled == ("b9",)
    with pytest.raises(SettingsError) as caught:
        draw_labels(SPLIT, 2, subjects=["b9", "b9"])
    assert caught.value.message == "These settings are not valid:"
    assert [str(fault) for fault in caught.value.faults] == ["labelled: give a number (2) or subjects (1), not both."]


@pytest.mark.parametrize("labelled", [0, 3, -1])
def test_more_than_there_are(labelled: int) -> None:
    with pytest.raises(DataError) as caught:
        draw_labels(SPLIT, labelled)
    assert caught.value.message == "Not enough labelled subjects:"
    problem = f"the train part has 2 labelled subjects, not the {labelled} asked for"
    assert [str(fault) for fault in caught.value.faults] == [f"labelled: {problem}."]
    assert draw_labels(SPLIT, 2).validation == draw_labels(SPLIT).validation == ("c3",)
    assert set(draw_labels(SPLIT, 2).labelled) == {"a1", "b9"}
    assert draw_labels(SPLIT).labelled == ("a1", "b9")


def test_draws_of_the_split_itself() -> None:
    rows = [{"labelled": ["a1"]}, {"labelled": ["x", "y"]}, {"labelled": ["a1", "b9"], "validation": []}]
    split = {**SPLIT, "draws": {"1": rows, "2": rows[1:2]}}
    assert draw_labels(split, 1, 2).validation == ()
    assert draw_labels(split, 1, 0).validation == ("c3",)
    for draw in (-1, 3):
        with pytest.raises(SettingsError) as refused:
            draw_labels(split, 1, draw)
        problem = f"split mine has draws 0 to 2 for labelled=1, not {draw}"
        assert [str(fault) for fault in refused.value.faults] == [f"draw: {problem}."]
    with pytest.raises(DataError) as caught:
        draw_labels(split, 1, 1)
    assert caught.value.message == "The draw is incomplete:"
    problem = "draw 1 for labelled=1 needs x, y, missing from the train part"
    remedy = "Take one of draw=0, draw=2, or name other subjects with subjects=[...]"
    assert [str(fault) for fault in caught.value.faults] == [f"split mine: {problem}. {remedy}."]
    with pytest.raises(DataError) as caught:
        draw_labels(split, 2, 0)
    problem = "draw 0 for labelled=2 needs x, y, missing from the train part"
    assert [str(fault) for fault in caught.value.faults] == [
        f"split mine: {problem}. Name other subjects with subjects=[...]."
    ]


def test_parts_are_those_that_are_known(path: Path) -> None:
    assert PARTS == ("pretrain", "train", "validation", "test")
    path.write_text(json.dumps({"parts": PATIENTS}))
    assert set(make_split(catalog(names(5)), str(path))["parts"]) == set(PARTS)
