"""Splits that follow the data set's own test and validation parts, and what is told of them, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.catalog import Catalog
from fewlabel.protocol.splits import draw_labels, make_split, overlap_faults
from kit.catalogs import catalog, names, reserved


def scans(train: int, test: int = 0, validation: int = 0) -> list[tuple[str, bool, str]]:
    """Labelled subjects s00… without a part, t00… that test and v00… that validate."""
    return [
        *((subject, True, "") for subject in names(train)),
        *((subject, True, "test") for subject in names(test, "t")),
        *((subject, True, "validation") for subject in names(validation, "v")),
    ]


def refused(data: Catalog, **settings: Any) -> list[str]:
    with pytest.raises(DataError) as caught:
        make_split(data, **settings)
    assert caught.value.message == "The split is not valid:"
    return [str(fault) for fault in caught.value.faults]


def test_own_validation_and_test_parts_leave_all_others_to_train() -> None:
    split = make_split(reserved([*scans(10, 2, 3), ("u", False, "validation")]))
    assert split == {
        "name": "own",
        "parts": {
            "pretrain": [*names(10), "u"], "train": names(10), "validation": names(3, "v"), "test": names(2, "t"),
        },
        "draws": {},
        "notes": [],
        "seed": 0,
    }  # fmt: skip


def test_beside_an_own_validation_part_a_test_part_is_drawn_and_the_other_way_round() -> None:
    parts = make_split(reserved(scans(10, validation=3)))["parts"]
    assert parts["validation"] == names(3, "v")
    assert (len(parts["test"]), len(parts["train"])) == (2, 8)
    parts = make_split(reserved(scans(10, test=3)))["parts"]
    assert parts["test"] == names(3, "t")
    assert (len(parts["validation"]), len(parts["train"])) == (1, 9)


def test_a_random_split_does_not_follow_the_own_parts() -> None:
    split = make_split(reserved(scans(10, 5, 5)), "random")
    assert split["name"] == "random"
    assert [len(split["parts"][part]) for part in ("train", "validation", "test")] == [14, 2, 4]
    assert set(split["parts"]["train"]) & {*names(5, "t"), *names(5, "v")}


def test_five_labelled_subjects_are_enough_to_split() -> None:
    split = make_split(reserved(scans(5)))
    assert [len(split["parts"][part]) for part in ("train", "validation", "test")] == [3, 1, 1]
    assert split["notes"] == []


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (scans(1), "1 labelled subject, fewer than 5: all of them train, none validates or tests"),
        (scans(4), "4 labelled subjects, fewer than 5: all of them train, none validates or tests"),
        (scans(3, test=1), "3 labelled subjects, fewer than 5: all of them train, none validates"),
        (scans(3, validation=1), "3 labelled subjects, fewer than 5: all of them train, none tests"),
        (scans(2, 1, 1), "2 labelled subjects, fewer than 5: all of them train"),
        ([("u", False, "")], "no subject has a label: none trains a segmenter, validates or tests"),
    ],
)
def test_what_few_labelled_subjects_do_is_said(rows: list[tuple[str, bool, str]], note: str) -> None:
    assert make_split(reserved(rows))["notes"] == [note]


def test_a_part_of_no_share_is_empty_and_any_share_is_one_subject_at_least() -> None:
    data = catalog(names(10))
    without = make_split(data, "random", test_fraction=0, validation_fraction=0)["parts"]
    assert (without["train"], without["validation"], without["test"]) == (names(10), [], [])
    little = make_split(data, "random", test_fraction=0.01, validation_fraction=0.01)["parts"]
    assert (len(little["train"]), len(little["validation"]), len(little["test"])) == (8, 1, 1)


@pytest.mark.parametrize(
    ("more", "mixed"),
    [
        ([("t00", True, "")], "t00"),
        ([("t00", False, "")], "t00"),
        ([("t00", True, "validation")], "t00"),
        ([("v01", True, ""), ("v00", False, "")], "v00, v01"),
        ([("t01", True, ""), ("v00", True, "")], "t01, v00"),
    ],
)
def test_subjects_inside_and_outside_of_an_own_part_are_named(more: list[tuple[str, bool, str]], mixed: str) -> None:
    assert refused(reserved([*scans(6, 2, 2), *more])) == [
        f"root: some subjects have scans both inside and outside the data set's test or validation part: {mixed}. "
        "Give all scans of a subject the same part."
    ]
    # A random split is not held to parts.
    assert make_split(reserved([*scans(6, 2, 2), *more]), "random")["name"] == "random"


def test_an_unlabelled_test_scan_does_not_take_a_subject_out_of_the_own_validation_part() -> None:
    split = make_split(reserved([*scans(6, 2, 2), ("v00", False, "test")]))
    assert split["parts"]["validation"] == ["v00", "v01"]
    assert "v00" not in split["parts"]["pretrain"]


def test_subjects_that_are_kept_for_testing_are_told_in_whole() -> None:
    both = [*scans(4), ("s03", False, "test")]
    split = make_split(reserved([*both, ("w", False, "test"), ("x", False, "test")]))
    assert split["parts"] == {"pretrain": names(3), "train": names(3), "validation": [], "test": []}
    assert split["notes"] == [
        "4 labelled subjects, fewer than 5: 3 of them train, none validates or tests",
        "2 unlabelled subjects are kept for testing by the data set: in no part (pretrain_on_test_scans=true lets "
        "their images enter pre-training)",
        "1 labelled subjects also have unlabelled scans that the data set keeps for testing. Parts are of whole "
        "subjects, so they do not train; they test and validate first, and 1 of them are in no part "
        "(pretrain_on_test_scans=true lets them train, with those scans)",
    ]
    enough = make_split(reserved([*scans(10), ("s03", False, "test")]))
    assert "s03" in enough["parts"]["test"]
    assert enough["notes"] == [
        "1 labelled subjects also have unlabelled scans that the data set keeps for testing. Parts are of whole "
        "subjects, so they do not train; they test and validate first (pretrain_on_test_scans=true lets them train, "
        "with those scans)"
    ]


def test_nobody_to_train_on() -> None:
    remedy = " Give pretrain_on_test_scans=true to let subjects with unlabelled test scans train."
    problem = "there is no labelled subject to train on."
    alone = reserved([("s", True, ""), ("s", False, "test")])
    assert refused(alone) == [f"split random: {problem}{remedy}"]
    # Where nobody has such scans, or they train already, that would not help.
    assert refused(reserved(scans(0, test=2))) == [f"split own: {problem}"]
    tested = reserved([*scans(0, test=2), ("w", False, "test")])
    assert refused(tested, pretrain_on_test_scans=True) == [f"split own: {problem}"]


def test_an_unknown_kind_of_split() -> None:
    for kind, remedy in (
        ("rondom", "Did you mean random?"),
        ("utoa", "Did you mean auto?"),
        ("xyz", "Choose from auto, random, chaitanya, develop, ssl4mis, or give a .json file."),
    ):
        with pytest.raises(SettingsError) as caught:
            make_split(catalog(names(5)), kind)
        assert caught.value.message == "These settings are not valid:"
        assert [str(fault) for fault in caught.value.faults] == [f'split: unknown split "{kind}". {remedy}']


def test_overlaps_are_told_for_each_pair_of_parts() -> None:
    faults = overlap_faults({"train": ["b", "a"], "test": ["a", "b", "c"], "validation": ["c"], "pretrain": ["a"]})
    assert [str(fault) for fault in faults] == [
        "split: some subjects are in both pretrain and test: a. Keep each in one part.",
        "split: some subjects are in both train and test: a, b. Keep each in one part.",
        "split: some subjects are in both validation and test: c. Keep each in one part.",
    ]
    assert overlap_faults({"train": ["a"]}) == overlap_faults({"test": ["a"]}) == []


def test_a_named_split_on_other_data() -> None:
    with pytest.raises(DataError) as caught:
        make_split(catalog(["patient007"], ["patient002"]), "chaitanya")
    assert caught.value.message == "The split does not fit the data set:"
    assert [str(fault) for fault in caught.value.faults] == [
        "root: split chaitanya has no labelled subject in its train part: none of its 76 subjects, such as "
        "patient001, has a label here. Use split=random, or the data set the split was made for (ACDC)."
    ]


def test_notes_of_a_named_split_on_part_of_its_data() -> None:
    split = make_split(catalog(["patient002", "patient007", "patient101"]), "chaitanya", pretrain_on_test_scans=True)
    assert split["name"] == "chaitanya"
    # Of the 13 draws only that of patient002 alone is whole, though that is all there is to train on.
    assert split["notes"] == [
        "98 of the split's 100 subjects are not in this data set",
        "1 subjects are not in the split: in no part",
        "12 of 13 draws lack a labelled subject: each is an error if asked for",
        "pretrain_on_test_scans=true is unused: chaitanya says itself who enters pre-training",
    ]


def test_notes_of_a_split_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    data = reserved([*scans(3), ("u", False, ""), ("w", False, "test"), ("s02", False, "test")])

    def noted(parts: dict[str, list[str]], scans: bool) -> list[str]:
        path.write_text(json.dumps({"parts": parts}))
        notes: list[str] = make_split(data, str(path), pretrain_on_test_scans=scans)["notes"]
        return notes

    kept = (
        "1 unlabelled subjects are kept for testing by the data set: in no part (pretrain_on_test_scans=true lets "
        "their images enter pre-training)"
    )
    seen = (
        "1 subjects of the train part also have unlabelled scans that the data set keeps for testing: they do not "
        "enter pre-training, but regimes that use unlabelled slices will see those scans"
    )
    unused = "pretrain_on_test_scans=true is unused: the file says itself who enters pre-training"
    said = (
        "1 subjects of the pretrain part have unlabelled scans that the data set keeps for testing: they enter "
        "pre-training, as the file says"
    )
    assert noted({"train": ["s00"]}, scans=False) == [kept]
    assert noted({"train": ["s00", "s02"]}, scans=False) == [kept, seen]
    assert noted({"train": ["s00", "s02"]}, scans=True) == []
    assert noted({"train": ["s00"], "pretrain": ["u"]}, scans=False) == []
    assert noted({"train": ["s00"], "pretrain": ["u"]}, scans=True) == [unused]
    assert noted({"train": ["s00"], "pretrain": ["w"]}, scans=False) == [said]
    assert noted({"train": ["s00"], "pretrain": ["w"]}, scans=True) == [unused, said]


def test_a_seed_gives_the_same_parts_and_draws_in_every_version() -> None:
    """Stores keep their parts but draw labels anew: runs of another version must learn from the same patients."""
    split = make_split(catalog(names(10)), "random")
    assert split["seed"] == 0
    assert split["parts"]["test"] == ["s02", "s09"]
    assert split["parts"]["validation"] == ["s06"]
    assert draw_labels(split, 3) == draw_labels(split, 3, draw=0, seed=0)
    assert draw_labels(split, 3).labelled == ("s00", "s08", "s05")
    assert draw_labels(split, 3, draw=1).labelled == ("s03", "s05", "s07")
    assert draw_labels(split, 3, seed=7).labelled == ("s08", "s05", "s01")
