"""``learn``: rounds of masks that come, on a run of tiny networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import ArtifactError, DataError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import learn
from fewlabel.stages import predict, suggest
from kit.segmenters import LABELS, SHAPE, annotate, nested_discs

FEW = {"steps": 2, "device": "cpu"}


def go(run: Path, **values: Any) -> Path:
    return learn.run(learn.learn_settings({"run": run, **FEW, **values}))


def test_a_round_learns_predicts_and_is_used(run: Path, said: list[str]) -> None:
    annotate(run, "c", nested_discs(2))
    first = go(run, scans=2, take="always")
    record = read_json(first / "round.json")
    assert record["labelled_subjects"] == ["a", "b", "c"]
    assert record["masks"]["c"]["kind"] == "new"
    assert record["scores"]["left_out"]["before"].keys() == {"a", "b"}
    assert record["scores"]["unseen"].keys() == {"c"}
    assert {parent.kind for parent in Artifact.open(first, "round").manifest.parents} == {
        "prepared", "segmenter", "predictions"
    }  # fmt: skip
    assert sorted(path.name for path in (first / "predictions").glob("*.nii.gz")) == ["d.nii.gz", "e.nii.gz"]
    assert record["taken"]
    assert record["seconds_of"].keys() == {"masks", "timing of steps", "training", "predictions"}
    assert sum(record["seconds_of"].values()) == pytest.approx(record["seconds"], abs=0.3)
    assert any(line.startswith("Round 1 took 0:") and ": masks 0:" in line for line in said)
    assert predict.find_segmenter(run).folder == first / "segmenter"
    assert any("c, whose first mask came now, had a Dice of" in line for line in said)
    with pytest.raises(DataError, match="holds no mask that is new"):
        go(run)
    assert not (run / "rounds" / "2").exists()

    corrected = nested_discs(0)
    corrected[0] = 0
    annotate(run, "a", corrected)
    second = go(run, scans=0, take="always")
    record = read_json(second / "round.json")
    assert record["masks"].keys() == {"a"}
    assert record["masks"]["a"]["kind"] == "corrected"
    assert record["start"]["content_hash"] == Artifact.open(first / "segmenter").content_hash
    assert record["scores"]["left_out"]["before"].keys() == {"a", "b", "c"}
    assert not (second / "predictions").exists()
    store = PreparedStore(second / "prepared")
    assert store.split["parts"]["train"] == ["a", "b", "c"]
    # What comes after knows the round, too.
    assert suggest.run(suggest.SETTINGS.parse({"run": run, "count": 1})).is_file()
    assert any("the network and 3 that left a patient out" in line for line in said)


def test_a_worse_round_is_kept_but_not_used(run: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    annotate(run, "c", nested_discs(2))
    spoilt = {"optimiser": {"name": "sgd", "lr": 3.0, "min_lr": 3.0}}
    monkeypatch.setattr("fewlabel.pipelines.round_verdict.MARGIN", -1.0)
    first = go(run, finetune=spoilt, scans=1)
    assert not read_json(first / "round.json")["taken"]
    assert any(line.startswith("The round is NOT taken: it is worse (mean Dice") for line in said)
    assert predict.find_segmenter(run).folder == run / "segmenter"
    table = (first / "predictions" / "run_report.json").read_text()
    assert json.loads(table)["model"]["content_hash"] == Artifact.open(run / "segmenter").content_hash
    go(run, use=1)
    assert predict.find_segmenter(run).folder == first / "segmenter"
    go(run, use=0)
    assert predict.find_segmenter(run).folder == run / "segmenter"
    with pytest.raises(SettingsError, match="Rounds there are: 1"):
        go(run, use=7)
    # The mask has not been learnt from by what is used, so the next round takes it again.
    monkeypatch.undo()
    second = go(run, take="always", scans=0)
    assert read_json(second / "round.json")["masks"].keys() == {"c"}
    assert predict.find_segmenter(run).folder == second / "segmenter"


def test_a_part_of_a_mask_is_learnt_from_and_the_rest_is_not_background(run: Path, said: list[str]) -> None:
    # Two whole slices of c; of d a few strokes, of each class one; nobody looked at anything else.
    truth, slices, strokes = nested_discs(2), np.full(SHAPE, 255), np.full(SHAPE, 255)
    slices[1:3] = truth[1:3]
    drawn = {"core": (nested_discs(3) == LABELS["core"]), "ring": nested_discs(3) == LABELS["ring"]}
    for name, where in drawn.items():
        strokes[3][where[3] & (np.arange(SHAPE[2]) % 3 == 0)] = LABELS[name]
    strokes[3, 0] = 0
    annotate(run, "c", slices)
    annotate(run, "d", strokes)
    made = go(run, take="always", scans=1)
    record = read_json(made / "round.json")
    assert record["masks"]["c"]["slices_annotated"] == pytest.approx(2 / 6, abs=1e-3)
    assert record["masks"]["d"]["slices_annotated"] == pytest.approx(1 / 6, abs=1e-3)
    assert record["labelled_subjects"] == ["a", "b", "c", "d"]
    assert any("c: new, 33% of its voxels annotated" in line for line in said)
    # The grid of the store is that of the scans, padded with background: voxel for voxel what was drawn, and no more.
    store = PreparedStore(made / "prepared")
    for scan, mask in (("c", slices), ("d", strokes)):
        case = next(case for case in store.cases if case.id == scan)
        got = np.asarray(store.labels[case.start : case.stop])
        assert [(got == 1).sum(), (got == 2).sum()] == [(mask == LABELS[name]).sum() for name in ("core", "ring")]
        looked_at = (mask < 255).any(axis=(1, 2))
        assert (got[~looked_at] == 255).all()
        assert (got[looked_at] == 255).sum() == (mask[looked_at] == 255).sum()
    # What the network was worth on them is told of the annotated voxels, too.
    assert record["scores"]["unseen"].keys() == {"c", "d"}
    assert all(0 <= dice <= 1 for dice in record["scores"]["unseen"].values())


def test_a_patient_with_nothing_annotated_tells_nothing_by_itself(run: Path, said: list[str]) -> None:
    annotate(run, "c", np.zeros(SHAPE))
    with pytest.raises(DataError, match="empty_masks=true"):
        go(run)
    made = go(run, scans=0, empty_masks=True, take="always")
    assert read_json(made / "round.json")["scores"]["left_out"]["before"].keys() == {"a", "b"}


def test_what_is_no_run_or_has_no_masks(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="is not a run folder"):
        go(run / "segmenter")
    with pytest.raises(DataError, match="annotations does not exist"):
        go(run)
    assert not (run / "rounds").exists()
    with pytest.raises(SettingsError, match="a time is hours"):
        go(run, budget="soon")


def test_an_unfinished_round_begins_anew(run: Path, said: list[str]) -> None:
    (run / "rounds" / "1" / "prepared").mkdir(parents=True)
    annotate(run, "c", nested_discs(2))
    go(run, scans=0)
    assert any("was left unfinished, and begins anew" in line for line in said)
    assert Artifact.find(run / "rounds" / "1", "round") is not None


def test_scans_of_a_prepared_folder_are_predicted_by_id(trained: Path, tmp_path: Path) -> None:
    values = {"model": trained, "scans": trained / "prepared", "out": tmp_path / "masks", "device": "cpu"}
    predict.run(predict.SETTINGS.parse({**values, "cases": ["d", "a"]}))
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.nii.gz")) == ["a.nii.gz", "d.nii.gz"]
    with pytest.raises(DataError, match='holds no scan "x"'):
        predict.run(predict.SETTINGS.parse({**values, "cases": ["x"]}))
    with pytest.raises(SettingsError, match="names scans of a prepared folder"):
        predict.run(predict.SETTINGS.parse({**values, "scans": trained.parent / "raw", "cases": ["a"]}))
