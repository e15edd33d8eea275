"""``relabel``: masks that come later go into prepared scans as if they had been there, or as far as they go."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data import added_mask_reading
from fewlabel.data.store import UNLABELLED, PreparedStore
from fewlabel.stages import evaluate, relabel
from kit.segmenters import LABELS, make_segmenter, nested_discs, prepared_discs, raw_folder

SUBJECTS = ("a", "b", "c", "d")


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    raw_folder(tmp_path / "raw", SUBJECTS, unlabelled=("c", "d"))
    return prepared_discs(tmp_path, train=("a", "b"), test=(), made=True)


def draw(folder: Path, scan: str, array: np.ndarray, *, raw: Path, suffix: str = "_seg") -> Path:
    folder.mkdir(exist_ok=True)
    image = sitk.GetImageFromArray(array.astype(np.uint8))
    image.CopyInformation(sitk.ReadImage(str(next(raw.rglob(f"{scan}_0000.nii.gz")))))
    path = folder / f"{scan}{suffix}.nii.gz"
    sitk.WriteImage(image, str(path))
    return path


def taken(prepared: Path, masks: Path, out: str = "again", **values: object) -> PreparedStore:
    settings = {"data": prepared, "masks": masks, "out": prepared.parent / out, **values}
    return PreparedStore(relabel.run(relabel.SETTINGS.parse(settings)))


def labels_of(store: PreparedStore, scan: str) -> np.ndarray:
    case = next(case for case in store.cases if case.id == scan)
    return np.asarray(store.labels[case.start : case.stop])


def test_a_new_mask_is_prepared_as_if_it_had_been_there(prepared: Path, tmp_path: Path) -> None:
    before = PreparedStore(prepared)
    raw = tmp_path / "raw"
    mask = nested_discs(2)
    draw(tmp_path / "masks", "c", mask, raw=raw)
    now = taken(prepared, tmp_path / "masks")
    shutil.copytree(raw, tmp_path / "whole" / "raw")
    draw(tmp_path / "whole" / "raw" / "labelsTr", "c", mask, raw=raw, suffix="")
    whole = PreparedStore(prepared_discs(tmp_path / "whole", train=("a", "b", "c"), test=(), made=True))
    assert np.array_equal(labels_of(now, "c"), labels_of(whole, "c"))
    assert np.array_equal(labels_of(now, "a"), labels_of(before, "a"))
    assert (labels_of(now, "d") == UNLABELLED).all()
    assert np.array_equal(now.images, before.images)
    assert now.split["parts"]["train"] == ["a", "b", "c"]
    assert now.slices.groupby("subject")["labelled"].all().to_dict() == {"a": True, "b": True, "c": True, "d": False}
    table = pd.read_parquet(now.folder / "catalog.parquet").set_index("case")
    assert table.loc["c", "label"] == "./masks/c.nii.gz"
    assert {case.id: case.label for case in now.cases}["c"] == str(now.folder / "masks" / "c.nii.gz")
    assert now.manifest.parents[0].content_hash == before.manifest.content_hash
    assert (now.folder / "images.npy").stat().st_ino == (before.folder / "images.npy").stat().st_ino


def test_a_mask_that_is_saved_anew_while_it_is_read_is_new_the_next_time(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks, read = tmp_path / "masks", added_mask_reading.read_annotation
    draw(masks, "c", nested_discs(2), raw=tmp_path / "raw")

    def read_and_somebody_saves(*words: Any) -> np.ndarray:
        values = read(*words)
        draw(masks, "c", nested_discs(3), raw=tmp_path / "raw")
        return values

    with monkeypatch.context() as patched:
        patched.setattr(added_mask_reading, "read_annotation", read_and_somebody_saves)
        first = taken(prepared, masks)
    again = taken(first.folder, masks, "third")
    assert not np.array_equal(labels_of(first, "c"), labels_of(again, "c"))


def test_what_nobody_looked_at_is_ignored_not_background(prepared: Path, tmp_path: Path, said: list[str]) -> None:
    mask = nested_discs(2)
    mask[2:] = 255
    draw(tmp_path / "masks", "c", mask, raw=tmp_path / "raw")
    scribble = np.full_like(mask, 9)
    scribble[1, 10:12, 10:20] = LABELS["core"]
    scribble[1, 2:4, 10:20] = 0
    draw(tmp_path / "masks", "d", scribble, raw=tmp_path / "raw", suffix="")
    now = taken(prepared, tmp_path / "masks", labels={9: "ignore"})
    slices, scribbled = labels_of(now, "c"), labels_of(now, "d")
    assert (slices[2:] == UNLABELLED).all()
    assert not (slices[:2] == UNLABELLED).any()
    assert set(np.unique(scribbled)) == {0, 1 + list(LABELS.values())[1:].index(LABELS["core"]), UNLABELLED}
    assert (scribbled != UNLABELLED).mean() < 0.1
    assert now.slices.loc[now.slices["case"] == "c", "labelled"].tolist() == [True, True] + [False] * (len(mask) - 2)
    assert any(line.startswith("c: new, ") and "of its voxels annotated" in line for line in said)
    # What scores reads the copy of the mask that the store keeps.
    split = json.loads((now.folder / "split.json").read_text())
    assert split["parts"]["train"] == ["a", "b", "c", "d"]
    model = make_segmenter(tmp_path / "model", now.plan)
    values = {"data": now.folder, "segmenter": model, "out": tmp_path / "scores", "part": "train", "device": "cpu"}
    scores = evaluate.run(evaluate.SETTINGS.parse(values))
    assert set(pd.read_csv(scores / "per_case.csv")["case"]) == {"a", "b", "c", "d"}


def test_empty_slices_may_be_left_out(prepared: Path, tmp_path: Path) -> None:
    mask = nested_discs(2)
    mask[0] = mask[3:] = 0
    draw(tmp_path / "masks", "c", mask, raw=tmp_path / "raw")
    background = labels_of(taken(prepared, tmp_path / "masks", out="one"), "c")
    left_out = labels_of(taken(prepared, tmp_path / "masks", out="two", empty_slices="all"), "c")
    assert not (background == UNLABELLED).any()
    assert (left_out[0] == UNLABELLED).all()
    assert np.array_equal(left_out[1:3], background[1:3])


def test_a_second_round_takes_what_is_new_and_keeps_the_rest(prepared: Path, tmp_path: Path) -> None:
    raw, masks = tmp_path / "raw", tmp_path / "masks"
    draw(masks, "c", nested_discs(2), raw=raw)
    one = taken(prepared, masks, out="one")
    with pytest.raises(DataError, match="holds no mask that is new"):
        taken(one.folder, masks, out="none")
    assert not (tmp_path / "none").exists()
    corrected = nested_discs(0)
    corrected[1] = 0
    draw(masks, "a", corrected, raw=raw)
    two = taken(one.folder, masks, out="two")
    assert np.array_equal(labels_of(two, "c"), labels_of(one, "c"))
    assert not labels_of(two, "a")[1].any()
    assert labels_of(one, "a")[1].any()
    assert json.loads((two.folder / "relabelled.json").read_text()).keys() == {"a", "c"}
    assert two.manifest.files.keys() >= {"masks/a.nii.gz", "masks/c.nii.gz"}


def test_every_mask_that_cannot_be_used_is_named(prepared: Path, tmp_path: Path) -> None:
    raw, masks = tmp_path / "raw", tmp_path / "masks"
    draw(masks, "c", np.full_like(nested_discs(2), 8), raw=raw)
    draw(masks, "a", np.full_like(nested_discs(2), 255), raw=raw)
    other = sitk.GetImageFromArray(np.zeros((3, 4, 5), np.uint8))
    sitk.WriteImage(other, str(masks / "b.nii.gz"))
    with pytest.raises(DataError) as error:
        taken(prepared, masks)
    words = str(error.value)
    assert "where nobody looked, not 8. Say what they stand for" in words
    assert "a_seg.nii.gz: holds no annotation at all" in words
    assert "b.nii.gz" in words
    assert not (tmp_path / "again").exists()
    with pytest.raises(SettingsError, match="is not empty"):
        taken(prepared, masks, out="raw")


def test_test_patients_are_not_learnt_from(tmp_path: Path, said: list[str]) -> None:
    raw = raw_folder(tmp_path / "raw", SUBJECTS)
    prepared = prepared_discs(tmp_path, train=("a", "b"), test=("c",), made=True)
    draw(tmp_path / "masks", "c", nested_discs(2), raw=raw)
    with pytest.raises(DataError, match="no mask that is new"):
        taken(prepared, tmp_path / "masks")
    assert said[-1] == "Left out, as they are of test patients: c."


def test_a_mask_of_background_alone_is_refused_unless_it_is_said_to_be_right(prepared: Path, tmp_path: Path) -> None:
    raw, masks = tmp_path / "raw", tmp_path / "masks"
    empty = np.zeros_like(nested_discs(2))
    draw(masks, "c", empty, raw=raw)
    draw(masks, "d", nested_discs(3), raw=raw)
    with pytest.raises(DataError, match=r"c_seg\.nii\.gz: is all background.*empty_masks=true"):
        taken(prepared, masks)
    assert not (tmp_path / "again").exists()
    now = taken(prepared, masks, empty_masks=True)
    assert not labels_of(now, "c").any()
    # Where a scan has nothing on it, another one may have nothing, too.
    draw(masks, "a", empty, raw=raw)
    assert not labels_of(taken(now.folder, masks, out="more"), "a").any()


def test_a_mask_that_was_emptied_is_refused(prepared: Path, tmp_path: Path) -> None:
    mask = np.full_like(nested_discs(0), 255)
    mask[0] = 0
    draw(tmp_path / "masks", "a", mask, raw=tmp_path / "raw")
    with pytest.raises(DataError, match="is all background, as no other mask is"):
        taken(prepared, tmp_path / "masks")
