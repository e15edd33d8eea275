"""What a training may learn from: slices of the parts that it names, and the labels of its draw."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.protocol.training_eligibility import (
    draw_faults,
    drawn_labels,
    labels_of_encoder,
    training_slices,
    unlabelled_slices,
)
from kit.stores import make_store, resealed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight subjects: five to train on, one that validates, two to test on; the second has no mask."""
    place = tmp_path_factory.mktemp("eligible") / "prepared"
    return make_store(place, subjects=8, depth=3, size=(8, 8), unlabelled=("patient002",))


@pytest.fixture
def store(folder: Path) -> PreparedStore:
    return PreparedStore(folder)


def split_of(store: PreparedStore, **values: object) -> PreparedStore:
    store.split = {**store.split, **values}
    return store


def subjects_at(store: PreparedStore, indices: np.ndarray) -> set[str]:
    return set(store.slices["subject"].iloc[indices])


def numbered(*numbers: int) -> set[str]:
    return {f"patient{number:03d}" for number in numbers}


@pytest.mark.parametrize(
    ("labelled", "draw", "subjects"), [(None, 0, None), (2, 3, None), (2, 0, ["a"]), (None, 0, ["a"])]
)
def test_a_draw_that_counts_is_no_fault(labelled: int | None, draw: int, subjects: list[str] | None) -> None:
    assert draw_faults(labelled, draw, subjects) == []


@pytest.mark.parametrize(
    ("labelled", "subjects", "told"),
    [
        (None, None, "draw=3 among all labelled patients has no effect. Add labelled=M, or leave out draw."),
        (None, ["a"], "draw=3 among patients given by subjects has no effect. Leave out subjects, or draw."),
        (2, ["a"], "draw=3 among patients given by subjects has no effect. Leave out subjects, or draw."),
    ],
)
def test_a_draw_among_all_is_a_fault(labelled: int | None, subjects: list[str] | None, told: str) -> None:
    assert [str(fault) for fault in draw_faults(labelled, 3, subjects)] == [f"draw: {told}"]
    assert [str(fault) for fault in draw_faults(labelled, 3, subjects, "finetune.")] == [f"finetune.draw: {told}"]


def test_a_draw_is_that_of_the_split_and_its_seed(store: PreparedStore) -> None:
    assert drawn_labels(store, None, 0).labelled == tuple(sorted(numbered(1, 2, 3, 4, 5)))
    assert drawn_labels(store, None, 0, ["patient003"]).labelled == ("patient003",)
    # A draw that the split has written down.
    assert drawn_labels(store, 1, 2).labelled == ("patient003",)
    # And ones that it has not, which its seed decides.
    drawn = [{drawn_labels(split_of(store, draws={}, seed=seed), 2, 1).labelled for _ in range(2)} for seed in range(8)]
    assert all(len(same) == 1 for same in drawn)
    assert len({next(iter(same)) for same in drawn}) > 1
    without = {key: value for key, value in store.split.items() if key != "seed"}
    store.split = without
    assert drawn_labels(store, 2, 1).labelled == next(iter(drawn[0]))
    with pytest.raises(DataError):
        drawn_labels(store, None, 0, ["patient008"])


def test_slices_of_parts_without_those_to_be_tested_on(store: PreparedStore) -> None:
    assert subjects_at(store, training_slices(store, ("train",))) == numbered(1, 2, 3, 4, 5)
    both = training_slices(store, ("train", "validation"))
    assert subjects_at(store, both) == numbered(1, 2, 3, 4, 5, 6)
    assert (np.diff(both) > 0).all()
    # Who is also in the test part is not trained on, whatever else the split says.
    parts = {**store.split["parts"], "pretrain": sorted(numbered(1, 8))}
    assert subjects_at(store, training_slices(split_of(store, parts=parts), ("pretrain",))) == numbered(1)
    del parts["test"]
    assert subjects_at(store, training_slices(split_of(store, parts=parts), ("pretrain",))) == numbered(1, 8)


def test_parts_that_cannot_be_trained_on_are_told_at_once(store: PreparedStore) -> None:
    with pytest.raises(DataError) as caught:
        training_slices(store, ("trian", "test", "other"))
    assert caught.value.message == "These parts cannot be trained on:"
    first, second, third = map(str, caught.value.faults)
    assert first.startswith('parts: the split has no part "trian". ')
    assert "train" in first.split(". ")[1]
    assert second.startswith('parts: the split has no part "other". ')
    assert third == "parts: test scans must not be trained on. Leave out test."


def test_two_slices_are_needed(store: PreparedStore) -> None:
    parts = {"train": [], "validation": [], "test": []}
    with pytest.raises(DataError) as caught:
        training_slices(split_of(store, parts=parts), ("train", "validation"))
    assert caught.value.message == "There is nothing to train on:"
    assert [str(fault) for fault in caught.value.faults] == [
        "parts train, validation: pre-training needs at least two slices, not 0. Name other parts."
    ]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_so_few_slices_two_will_do(store: PreparedStore, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr(store, "slices_of", lambda subjects: np.arange(count))
    if count > 1:
        assert training_slices(store, ("train",)).tolist() == list(range(count))
        return
    with pytest.raises(DataError, match="at least two slices, not 1"):
        training_slices(store, ("train",))


def test_slices_without_a_mask_are_those_of_others_and_what_nobody_annotated_of_labelled_ones(
    folder: Path, tmp_path: Path
) -> None:
    import shutil

    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    table = pd.read_parquet(copy / "slices.parquet")
    # Of the first patient one scan has no mask, and one slice of the other has none.
    first = table["subject"] == "patient001"
    table.loc[table["case"] == "patient001_phase1", "labelled"] = False
    table.loc[table.index[first][0], "labelled"] = False
    table.to_parquet(copy / "slices.parquet")
    store = PreparedStore(resealed(copy))
    found = unlabelled_slices(store, numbered(1, 2, 3), ["patient001"])
    rows = store.slices.iloc[found]
    assert set(rows["subject"]) == numbered(1, 2, 3)
    whole, partly = (store.slices["case"] == f"patient001_phase{phase}" for phase in (1, 0))
    own = set(found[(rows["subject"] == "patient001").to_numpy()].tolist())
    assert own == {*np.flatnonzero(whole.to_numpy()).tolist(), int(np.flatnonzero(partly.to_numpy())[0])}
    assert not set(store.slices_of(["patient001"], labelled=True).tolist()) & own
    assert len(found) == len(set(found.tolist()))
    assert set(unlabelled_slices(store, numbered(3), [])) == set(store.slices_of(["patient003"]))
    assert unlabelled_slices(store, numbered(3), ["patient003"]).tolist() == []


def encoder(folder: Path, **facts: object) -> Artifact:
    folder.mkdir()
    (folder / "encoder.json").write_text(json.dumps(facts))
    finish_artifact(folder, "encoder", ["encoder.json"])
    return Artifact.open(folder)


def test_labels_of_an_encoder_count_for_all_that_is_trained_from_it(tmp_path: Path) -> None:
    words = {"rule": "The draw is a", "remedy": "Take another encoder"}
    made = encoder(tmp_path / "e", labelled_subjects=["a", "b", "c"])
    assert labels_of_encoder(None, ["a"], **words) == ()
    assert labels_of_encoder(encoder(tmp_path / "f"), ["a"], **words) == ()
    assert labels_of_encoder(made, ["a", "b", "c", "d"], **words) == ("a", "b", "c")
    assert labels_of_encoder(made, None, **words) == ("a", "b", "c")
    with pytest.raises(SettingsError) as caught:
        labels_of_encoder(made, ["a"], **words)
    assert caught.value.message == "Labels would leak:"
    (fault,) = caught.value.faults
    assert str(fault) == f"The draw is a, but {tmp_path / 'e'} also learnt from b, c. Take another encoder."
