"""Splits that the user wrote as JSON files."""

import json
from pathlib import Path

import pytest

from fewlabel.core.errors import DataError
from fewlabel.protocol.splits import draw_labels, make_split
from kit.catalogs import catalog, names, reserved


def test_a_split_file_fills_pretraining_and_reports_every_fault(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parts": {"train": ["s00"], "test": ["s01"]}}))
    split = make_split(catalog(names(3), ["u"]), str(path))
    assert split["name"] == "mine"
    assert split["parts"] == {"pretrain": ["s00", "u"], "train": ["s00"], "validation": [], "test": ["s01"]}
    path.write_text(json.dumps({"parts": {"train": ["s0", "u"], "tests": []}}))
    with pytest.raises(DataError) as error:
        make_split(catalog(names(3), ["u"]), str(path))
    text = str(error.value)
    assert 'unknown part "tests". Did you mean test?' in text
    assert "s0 of part train is not in the data set. Did you mean s0" in text
    assert "u of part train has no label" in text
    path.write_text("[1]")
    with pytest.raises(DataError, match="A split file holds"):
        make_split(catalog(names(3)), str(path))
    path.write_text(json.dumps({"parts": {"train": ["s00"]}, "draws": {"1": [{"labelled": ["s01"]}]}}))
    with pytest.raises(DataError, match="a draw of 1 must name that many subjects of the train part"):
        make_split(catalog(names(3)), str(path))


def test_a_split_file_without_pretraining_leaves_test_scans_alone(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parts": {"train": ["s00", "s02"], "test": ["s01"]}}))
    rows = [(subject, True, "") for subject in names(3)]
    data = reserved([*rows, ("u", False, ""), ("t", False, "test"), ("s02", False, "test")])
    split = make_split(data, str(path))
    assert split["parts"]["pretrain"] == ["s00", "u"]
    assert any("1 unlabelled subjects are kept for testing" in note for note in split["notes"])
    assert any("1 subjects of the train part also have unlabelled scans" in note for note in split["notes"])
    asked = make_split(data, str(path), pretrain_on_test_scans=True)
    assert asked["parts"]["pretrain"] == ["s00", "s02", "t", "u"]
    path.write_text(json.dumps({"parts": {"train": ["s00"], "test": ["s01"], "pretrain": ["t"]}}))
    split = make_split(data, str(path))
    assert split["parts"]["pretrain"] == ["t"]
    assert any("1 subjects of the pretrain part have unlabelled scans" in note for note in split["notes"])


def mine(tmp_path, **content):
    path = tmp_path / "mine.json"
    parts = {"train": ["s00", "s01"], "validation": ["s02"], "test": ["s03"]}
    path.write_text(json.dumps({"parts": parts, **content}))
    return str(path)


def test_a_draw_of_a_file_validates_on_the_validation_part_unless_it_says(tmp_path):
    draws = {"1": [{"labelled": ["s01"]}, {"labelled": ["s00"], "validation": []}], "2": [{"labelled": ["s00", "s01"]}]}
    split = make_split(catalog(names(4)), mine(tmp_path, draws=draws))
    assert draw_labels(split, 1, 0) == draw_labels(split, subjects=["s01"])
    assert draw_labels(split, 1, 1).validation == ()
    assert draw_labels(split, 2).labelled == ("s00", "s01")
    # As prepared before this was filled in.
    assert draw_labels({**split, "draws": draws}, 1).validation == ("s02",)


@pytest.mark.parametrize(
    ("draws", "told"),
    [
        ([["s00"]], r'draws must map how many are labelled to a list of draws, not be \[\["s00"\]\]'),
        ({"one": [{"labelled": ["s00"]}]}, 'labelled, from 1, not "one"'),
        ({"0": [{"labelled": []}]}, 'labelled, from 1, not "0"'),
        ({"1": {"labelled": ["s00"]}}, r'draws of 1 must be a list of one or more, not \{"labelled"'),
        ({"1": []}, r"draws of 1 must be a list of one or more, not \[\]"),
        ({"1": [["s00"]]}, r'draw 0 of 1: \["s00"\] is not a draw'),
        ({"1": [{"labelled": "s00"}]}, r"draw 0 of 1: .* is not a draw"),
        ({"1": [{"labelled": ["s00"], "validation": "s02"}]}, r"draw 0 of 1: .* is not a draw"),
        ({"1": [{"validation": ["s02"]}]}, r"draw 0 of 1: .* is not a draw"),
        ({"2": [{"labelled": ["s00", "s00"]}]}, "a draw of 2 must name that many subjects of the train part"),
        ({"1": [{"labelled": ["s00"], "validation": ["s03"]}]}, "s03 of a draw must be in the validation part"),
    ],
)
def test_draws_of_a_file_have_their_shape(tmp_path, draws, told):
    with pytest.raises(DataError, match=told):
        make_split(catalog(names(4)), mine(tmp_path, draws=draws))


def test_every_fault_of_a_split_file_comes_at_once(tmp_path):
    parts = {"train": "s00", "validation": "s3", "tests": [], "test": ["zz", None]}
    path = mine(tmp_path, parts=parts, draws={"one": [], "1": [7]})
    with pytest.raises(DataError) as error:
        make_split(catalog(names(4)), path)
    text = str(error.value)
    for words in (
        'part train must be a list of subjects, not "s00"',
        'part validation must be a list of subjects, not "s3"',
        'part test must be a list of subjects, not ["zz", null]',
        'unknown part "tests"',
        'labelled, from 1, not "one"',
        "draw 0 of 1: 7 is not a draw",
    ):
        assert words in text
    Path(path).write_bytes(b'{"parts": {"train": ["\xf6"]}}')
    with pytest.raises(DataError, match="A split file holds"):
        make_split(catalog(names(4)), path)


def test_a_file_of_a_windows_editor_is_read(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parts": {"train": ["s00"]}}), encoding="utf-8-sig")
    assert make_split(catalog(names(3)), str(path))["parts"]["train"] == ["s00"]


def test_a_file_that_cannot_be_read_says_why(tmp_path):
    for name, why in (("gone.json", "No such file or directory"), ("mine.json", "Expecting property name")):
        (tmp_path / "mine.json").write_text("{")
        with pytest.raises(DataError, match=f"is not a readable JSON file \\({why}") as error:
            make_split(catalog(names(3)), str(tmp_path / name))
        assert error.value.message == "The split cannot be read:"


def test_a_subject_without_a_label_is_told_with_its_file(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parts": {"train": ["s00", "u"], "pretrain": ["u"]}}))
    with pytest.raises(DataError) as error:
        make_split(catalog(names(3), ["u"]), str(path))
    assert error.value.message == "The split is not valid:"
    assert [str(fault) for fault in error.value.faults] == [f"{path}: u of part train has no label."]
