"""Scribbles beside full labels: what each part of a split may have, and what is told of one that mixes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.hdf5_and_npz_arrays import Address
from fewlabel.protocol.scribbles_in_splits import kind_faults, kind_notes, label_kinds
from fewlabel.protocol.splits import make_split

PARTS = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
REMEDY = "Use split=auto, which follows the lists, or reader.label=label for full labels everywhere."


def label(kind: str) -> Path | None:
    if kind in ("scribble", "label"):
        return Address(Path("scan.h5"), kind, "zyx", (1.0, 1.0, 1.0)).path
    return Path("scan_gt.nii.gz") if kind == "file" else None


def catalog(**kinds: str) -> Catalog:
    """Subject → kinds of the labels of its scans, separated by spaces."""
    cases = [
        Case(f"{subject}{number}", subject, (Path("scan.h5"),), label(kind), {}, "")
        for subject, words in kinds.items()
        for number, kind in enumerate(words.split())
    ]
    return Catalog("toy", Path("root"), "ssl4mis", tuple(cases))


def told(data: Catalog, parts: dict[str, list[str]]) -> list[str]:
    return [str(fault) for fault in kind_faults(data, {"name": "mine", "parts": parts})]


def test_kinds_are_told_by_the_array_that_a_label_is_read_from() -> None:
    data = catalog(a="scribble", b="label", c="file", d="scribble label", e="none", f="none scribble")
    assert label_kinds(data) == {
        "a": {"scribbles"}, "b": {"full labels"}, "c": {"full labels"}, "d": {"scribbles", "full labels"},
        "f": {"scribbles"},
    }  # fmt: skip


@pytest.mark.parametrize("validating", ["scribble", "label", "none"])
def test_scribbles_train_full_labels_test_and_either_validates(validating: str) -> None:
    assert told(catalog(a="scribble", b="scribble", c=validating, d="label"), PARTS) == []


@pytest.mark.parametrize("kind", ["scribble", "label", "file"])
def test_one_kind_alone_may_be_in_all_parts(kind: str) -> None:
    assert told(catalog(a=kind, b=kind, c=kind, d=kind), PARTS) == []


def test_nothing_is_said_of_data_without_labels_or_parts_without_subjects() -> None:
    assert told(catalog(a="none"), PARTS) == []
    assert told(catalog(a="scribble", d="label"), {}) == []
    assert told(catalog(a="scribble", d="label"), {"train": ["a", "unknown"], "test": []}) == []


@pytest.mark.parametrize(
    ("kinds", "part", "text"),
    [
        (
            {"a": "label", "b": "scribble", "c": "label", "d": "label"},
            "train",
            "1 subjects with full labels, such as a and 1 subjects with scribbles, such as b",
        ),
        # Of one kind, but not of that which trains.
        ({"a": "file", "b": "file", "c": "scribble", "d": "label"}, "train", "2 subjects with full labels, such as a"),
        ({"a": "scribble", "c": "label", "d": "scribble"}, "test", "1 subjects with scribbles, such as d"),
        (
            {"a": "scribble", "b": "scribble", "c": "scribble label", "d": "label"},
            "validation",
            "1 subjects with full labels, such as c and 1 subjects with scribbles, such as c",
        ),
    ],
)  # fmt: skip
def test_a_part_that_does_not_fit_is_named(kinds: dict[str, str], part: str, text: str) -> None:
    problem = f"the {part} part has {text}; where a data set has both, train on scribbles and test on full labels"
    assert told(catalog(**kinds), PARTS) == [f"split mine: {problem}. {REMEDY}"]


def test_each_part_has_its_own_fault_and_a_split_file_with_any_is_refused(tmp_path: Path) -> None:
    data = catalog(a="label", b="label", c="label", d="scribble")
    faults = told(data, PARTS)
    assert [fault.split(" part ")[0] for fault in faults] == ["split mine: the train", "split mine: the test"]
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parts": PARTS}))
    with pytest.raises(DataError) as caught:
        make_split(data, str(path))
    assert [str(fault) for fault in caught.value.faults] == faults


def test_a_model_that_is_selected_on_scribbles_is_noted(tmp_path: Path) -> None:
    data = catalog(a="scribble", b="scribble", c="scribble", d="label")
    note = (
        "1 validation subjects have scribbles, no full labels: a model is selected by the marked pixels alone "
        "(a list val.list keeps scans with full labels for it, validation_fraction=0 none)"
    )
    assert kind_notes(data, {"parts": PARTS}) == [note]
    assert kind_notes(data, {"parts": {"train": ["a"]}}) == []
    assert kind_notes(catalog(a="scribble", b="scribble", c="label", d="label"), {"parts": PARTS}) == []
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"parts": PARTS}))
    assert make_split(data, str(path))["notes"] == [note]
