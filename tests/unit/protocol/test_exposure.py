"""Whose images a network has met, in its own training and in that of the encoders before it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.protocol.exposure import images_met, images_of, met_among
from kit.stores import make_store


def encoder(folder: Path, facts: dict[str, Any], parents: tuple[Path, ...] = (), **settings: Any) -> Artifact:
    folder.mkdir()
    (folder / "encoder.json").write_text(json.dumps(facts))
    finish_artifact(folder, "encoder", ["encoder.json"], parents=parents, settings=settings)
    return Artifact.open(folder)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Eight subjects: five to train on, one that validates, two to test on."""
    return make_store(tmp_path / "prepared", subjects=8, depth=2, size=(8, 8), phases=1)


def numbered(*numbers: int) -> set[str]:
    return {f"patient{number:03d}" for number in numbers}


def test_an_encoder_says_itself_whom_it_met(tmp_path: Path, store: Path) -> None:
    assert images_of(encoder(tmp_path / "e", {"image_subjects": ["b", "a", "b"]}, (store,))) == {"a", "b"}
    assert images_of(encoder(tmp_path / "none", {"image_subjects": []}, (store,))) == set()


def test_one_that_does_not_is_judged_by_the_split_of_its_data(tmp_path: Path, store: Path) -> None:
    assert images_of(encoder(tmp_path / "e", {}, (store,))) == numbered(1, 2, 3, 4, 5)
    assert images_of(encoder(tmp_path / "f", {}, (store,), parts=["validation", "test"])) == numbered(6, 7, 8)
    assert images_of(encoder(tmp_path / "g", {}, (store,), parts=["validation", "unheard of"])) == numbered(6)
    assert images_of(encoder(tmp_path / "h", {})) == set()


def test_what_an_encoder_began_from_counts_too(tmp_path: Path, store: Path) -> None:
    first = encoder(tmp_path / "first", {"image_subjects": ["elsewhere"]})
    second = encoder(tmp_path / "second", {}, (first.folder, store), parts=["validation"])
    third = encoder(tmp_path / "third", {}, (second.folder,))
    assert images_of(second) == {"elsewhere", *numbered(6)}
    assert images_of(third) == images_of(second)


def test_a_run_has_met_its_own_and_those_of_its_encoder(tmp_path: Path) -> None:
    before = encoder(tmp_path / "e", {"image_subjects": ["c", "a"]})
    assert images_met(["d", "a"], before) == ["a", "c", "d"]
    assert images_met(["d", "a", "d"], None) == ["a", "d"]


@pytest.mark.parametrize(
    ("subjects", "met", "dataset", "found"),
    [
        (["a", "b"], ["b", "c"], "hearts", {"b"}),
        # Met in a merged store, scored in the store of its own, be it the first of that name or a later one.
        (["a"], ["hearts:a"], "hearts", {"a"}),
        (["a"], ["hearts2:a"], "hearts", {"a"}),
        (["a"], ["livers:a"], "hearts", set()),
        (["a"], ["hearts:b"], "hearts", set()),
        # Met under its own name, scored in a merged store.
        (["hearts:a", "livers:b"], ["a"], "merged", {"hearts:a"}),
        (["hearts:a"], ["hearts:a"], "merged", {"hearts:a"}),
        (["hearts:a"], ["livers:a"], "merged", set()),
        (["a"], [], "hearts", set()),
        # A set whose own name ends in a number.
        (["a"], ["acdc17:a"], "acdc17", {"a"}),
        (["p1"], ["KiTS191:p1"], "KiTS19", {"p1"}),
        # Nobody can tell KiTS191 as a set of its own from the first KiTS19 of a merge: better told than missed.
        (["p1"], ["KiTS192:p1", "KiTS191:p2"], "KiTS19", {"p1"}),
        (["p1"], ["KiTS21:p1"], "KiTS19", set()),
        (["p1"], ["KiTS1901:p1", "KiTS19b:p1", "KiTS:p1"], "KiTS19", set()),
        # Sets that one store holds side by side are told apart by it.
        (["acdc:p1", "acdc2:p2"], ["acdc2:p1", "acdc:p2"], "acdc+acdc2", set()),
        # Merges of merges, from either side.
        (["p1"], ["A+B:A:p1"], "A", {"p1"}),
        (["p1"], ["A+B2:A:p1"], "A", {"p1"}),
        (["p1"], ["A+B+C:A+B:A1:p1"], "A", {"p1"}),
        (["p1"], ["A+B:B:p1"], "A", set()),
        (["A:p1", "B:p2"], ["A+B+C:A+B:A:p1"], "A+B", {"A:p1"}),
        (["A+B:A:p1", "C:p2"], ["p1"], "A+B+C", {"A+B:A:p1"}),
        (["A+B:A:p1", "C:p2"], ["A:p1"], "A+B+C", {"A+B:A:p1"}),
        (["A+B:A:p1", "C:p2"], ["B:p1"], "A+B+C", set()),
        # Met in one merged store, scored in another.
        (["A:p1", "B:p1"], ["A:p1"], "A+B", {"A:p1"}),
        (["A1:p1", "A2:p2"], ["A:p1"], "A1+A2", {"A1:p1"}),
        (["A:p1", "B:p2"], ["A1:p1"], "A+B", {"A:p1"}),
        (["A:p1", "B:p2"], ["A+C:A:p1"], "A+B", {"A:p1"}),
        # Data sets whose own names have a colon.
        (["p1"], ["KiTS: 2019:p1"], "KiTS: 2019", {"p1"}),
        (["KiTS: 2019:p1", "B:p2"], ["p1"], "KiTS: 2019+B", {"KiTS: 2019:p1"}),
        # Subjects whose own names have a colon.
        (["a:1"], ["hearts:a:1"], "hearts", {"a:1"}),
        (["hearts:a:1"], ["a:1"], "merged", {"hearts:a:1"}),
    ],
)
def test_subjects_are_known_under_the_names_of_merged_stores(
    subjects: list[str], met: list[str], dataset: str, found: set[str]
) -> None:
    assert met_among(subjects, met, dataset) == found
