"""Evaluation end to end: the original grid in mm, leaks, changed files, the control."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import ArtifactError, DataError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.engine import ensemble
from fewlabel.scoring.statistics import bootstrap_interval, paired_comparison
from fewlabel.stages import evaluate
from kit.segmenters import LABELS, SPACING, as_slabs, make_segmenter, prepared_discs, raw_folder

ROWS, COLUMNS = SPACING[1], SPACING[0]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate")
    return PreparedStore(prepared_discs(folder, test=("s3", "s4", "s5"), unlabelled=("s5",)))


@pytest.fixture(scope="module")
def segmenter(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "segmenter"
    return make_segmenter(folder, store.plan, labelled_subjects=["s1"], regime="supervised", steps=3)


@pytest.fixture(scope="module")
def control(store, tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("models") / "control", store.plan, labelled_subjects=["s1"], steps=9)


def settings(store, model, out, **over):
    values = {"data": store.folder, "segmenter": model, "out": out, "device": "cpu", "resamples": 200}
    return evaluate.EvaluateSettings.parse({**values, **over})


def answer(store, change=lambda mask: mask, only=None):
    """A network that knows the prepared labels, changed by ``change`` for one case or all."""
    known = {case.id: np.array(store.labels[case.start : case.stop]) for case in store.cases}
    images = {case.id: np.asarray(store.images[case.start : case.stop], np.float32) for case in store.cases}

    def predict(network, array, **_):
        name = next(key for key, value in images.items() if np.array_equal(value.swapaxes(0, 1), array))
        mask = change(known[name]) if only in (None, name) else known[name]
        return (mask[None] == np.arange(3)[:, None, None, None]).astype(np.float32)

    return predict


def table_of(out):
    return pd.read_parquet(out / "per_case.parquet")


def test_a_perfect_answer_is_perfect_on_the_original_grid(store, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answer(store)))
    out = evaluate.run(settings(store, segmenter, tmp_path / "scores"))
    table = table_of(out)
    assert list(table.columns) == list(evaluate.COLUMNS)
    assert table[["arm", "case", "class"]].to_numpy().tolist() == [
        ["model", s, c] for s in ("s3", "s4") for c in (1, 2)
    ]
    assert (table["dice"] == 1).all()
    assert (table["hd95_mm"] == 0).all()
    assert (table["assd_mm"] == 0).all()
    assert table["class_name"].tolist() == ["core", "ring"] * 2
    # Volumes are those of the raw file.
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(store.folder.parent / "raw/labelsTr/s3.nii.gz")))
    millilitres = [(mask == LABELS[name]).sum() * np.prod(SPACING) / 1000 for name in ("core", "ring")]
    assert table["reference_ml"].tolist()[:2] == pytest.approx(millilitres)
    assert table["predicted_ml"].tolist()[:2] == pytest.approx(millilitres)
    pd.testing.assert_frame_equal(table, pd.read_csv(out / "per_case.csv"))
    assert read_json(out / "summary.json")["gain"] is None


@pytest.mark.parametrize(("axis", "step"), [(1, ROWS), (2, COLUMNS)])
def test_distances_are_in_mm_of_the_file(store, segmenter, tmp_path, monkeypatch, axis, step):
    """Shifted by two pixels in the plane, the core lies two pixel sizes off."""
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answer(store, lambda mask: np.roll(mask, 2, axis=axis))))
    out = evaluate.run(settings(store, segmenter, tmp_path / "scores"))
    core = table_of(out).query("class_name == 'core'")
    assert core["hd95_mm"].tolist() == pytest.approx([2 * step] * 2)
    assert (core["dice"] < 0.8).all()
    assert core["predicted_ml"].tolist() == pytest.approx(core["reference_ml"].tolist())


def test_both_grids_agree_where_the_way_back_is_exact(store, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answer(store, lambda mask: np.roll(mask, 1, axis=2))))
    one = table_of(evaluate.run(settings(store, segmenter, tmp_path / "one")))
    two = table_of(evaluate.run(settings(store, segmenter, tmp_path / "two", grid="prepared")))
    assert 0.3 < one["dice"].min() < one["dice"].max() < 1
    pd.testing.assert_frame_equal(one, two)


def test_missed_and_invented_structures_count(store, segmenter, tmp_path, monkeypatch):
    monkeypatch.setattr(
        ensemble, "predict_slabs", as_slabs(answer(store, lambda mask: np.where(mask == 1, 2, mask), only="s4"))
    )
    out = evaluate.run(settings(store, segmenter, tmp_path / "scores"))
    core = table_of(out).query("class_name == 'core'").set_index("case")
    shape, spacing = (6, 26, 22), SPACING[::-1]
    diagonal = float(np.linalg.norm(np.multiply(shape, spacing)))
    assert core.loc["s4", ["dice", "hd95_mm", "assd_mm"]].tolist() == pytest.approx([0, diagonal, diagonal])
    assert bool(core.loc["s4", "missed"])
    summary = read_json(out / "summary.json")
    model = summary["arms"]["model"]
    assert (model["classes"]["1"]["missed"], model["classes"]["1"]["invented"], model["mean"]["missed"]) == (1, 0, 1)
    assert model["classes"]["1"]["hd95_mm"]["mean"] == pytest.approx(diagonal / 2)
    assert "diagonal" in summary["protocol"]["empty_masks"]


def test_summary_and_gain_follow_from_the_table(store, segmenter, control, tmp_path, monkeypatch):
    good, bad = answer(store), answer(store, lambda mask: np.roll(mask, 1, axis=1))
    calls = []

    def predict(network, array, **options):
        calls.append(network)
        return (good if network is calls[0] else bad)(network, array)

    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(predict))
    out = evaluate.run(settings(store, segmenter, tmp_path / "scores", control=control, seed=5))
    assert len({id(network) for network in calls}) == 2
    table, summary = table_of(out), read_json(out / "summary.json")
    subjects = ["s3", "s4"]
    core = table[(table["class"] == 1) & (table["arm"] == "control")]["dice"].tolist()
    wanted = bootstrap_interval(core, subjects, resamples=200, seed=5).record()
    assert summary["arms"]["control"]["classes"]["1"]["dice"] == wanted
    means = {arm: rows.groupby("case")["dice"].mean().tolist() for arm, rows in table.groupby("arm")}
    wanted = paired_comparison(means["model"], means["control"], subjects, resamples=200, seed=5).record()
    assert summary["gain"]["mean"]["dice"] == wanted
    assert wanted["mean"] > 0
    assert "too few" in wanted["verdict"]
    # Fewer millimetres are a gain.
    assert summary["gain"]["mean"]["hd95_mm"]["mean"] < 0
    assert "too few" in summary["gain"]["mean"]["hd95_mm"]["verdict"]
    assert summary["classes"] == {"1": "core", "2": "ring"}
    # The control of this module was trained for 9 steps, and says so.
    assert [told.split(" (")[0] for told in summary["differences"]] == ["steps"]
    assert summary["segmenters"]["control"]["steps"] == 9
    kinds = [parent.kind for parent in Artifact.open(out, "scores").manifest.parents]
    assert kinds == ["prepared", "segmenter", "segmenter"]


@pytest.mark.parametrize("grid", ["original", "prepared"])
def test_ignored_voxels_count_for_nobody(tmp_path, monkeypatch, grid):
    """The rim of every slice is marked as unknown; whatever is predicted there is no error."""
    raw = raw_folder(tmp_path / "raw", ["s1", "s2"])
    described = read_json(raw / "dataset.json")
    write_json(raw / "dataset.json", {**described, "labels": {**described["labels"], "ignore": 41}})
    for name in ("s1", "s2"):
        image = sitk.ReadImage(str(raw / f"labelsTr/{name}.nii.gz"))
        image[:3, :, :] = 41
        sitk.WriteImage(image, str(raw / f"labelsTr/{name}.nii.gz"))
    store = PreparedStore(prepared_discs(tmp_path, train=("s1",), test=("s2",), made=True))
    assert (np.asarray(store.labels) == 255).any()
    segmenter = make_segmenter(tmp_path / "segmenter", store.plan)

    def rim_is_core(mask):
        return np.where(mask == 255, 1, mask)

    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answer(store, rim_is_core)))
    table = table_of(evaluate.run(settings(store, segmenter, tmp_path / "scores", grid=grid)))
    assert (table["dice"] == 1).all()
    assert (table["hd95_mm"] == 0).all()
    assert table["predicted_ml"].tolist() == table["reference_ml"].tolist()


def test_dice_only_with_a_real_network(store, segmenter, tmp_path):
    out = evaluate.run(settings(store, segmenter, tmp_path / "scores", surface=False))
    assert table_of(out)[["hd95_mm", "assd_mm"]].isna().all(axis=None)
    summary = read_json(out / "summary.json")
    assert summary["arms"]["model"]["mean"]["hd95_mm"]["n"] == 0
    assert summary["protocol"]["distances"] == "Not measured."


@pytest.mark.parametrize("key", ["labelled_subjects", "validation_subjects"])
@pytest.mark.parametrize("arm", ["segmenter", "control"])
def test_a_leak_is_refused_by_name(store, segmenter, tmp_path, key, arm):
    leaky = make_segmenter(tmp_path / "leaky", store.plan, **{key: ["s1", "s4"]})
    over = {"segmenter": leaky} if arm == "segmenter" else {"control": leaky}
    with pytest.raises(DataError, match="cannot be scored on s4, whose labels") as caught:
        evaluate.run(settings(store, segmenter, tmp_path / "scores", **over))
    assert "s4" in str(caught.value)
    assert "s1" not in str(caught.value)
    assert not (tmp_path / "scores").exists()


def test_a_test_image_in_pre_training_is_a_leak(store, tmp_path):
    """The encoder's own prepared folder had another split, with a test subject of this one in pre-training."""
    other = prepared_discs(tmp_path / "other", train=("s1", "s3"), test=("s2",))
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    write_json(encoder / "encoder.json", {})
    finish_artifact(encoder, "encoder", ["encoder.json"], parents=[other], settings={"parts": ["pretrain"]})
    leaky = make_segmenter(tmp_path / "leaky", store.plan, parents=[encoder], labelled_subjects=["s1"])
    with pytest.raises(DataError, match="images entered training") as caught:
        evaluate.run(settings(store, leaky, tmp_path / "scores"))
    assert "s3" in str(caught.value)


def test_a_test_image_among_unlabelled_ones_is_a_leak_whatever_became_of_the_parents(store, tmp_path):
    leaky = make_segmenter(tmp_path / "leaky", store.plan, image_subjects=["s1", "s4"])
    with pytest.raises(DataError, match="images entered training") as caught:
        evaluate.run(settings(store, leaky, tmp_path / "scores"))
    assert "s4" in str(caught.value)
    assert "s1" not in str(caught.value)


def test_training_subjects_may_be_scored_only_if_unmet(store, segmenter, tmp_path):
    with pytest.raises(DataError, match="s1"):
        evaluate.run(settings(store, segmenter, tmp_path / "scores", part="train"))


def test_changed_or_lost_label_files(tmp_path):
    store = PreparedStore(prepared_discs(tmp_path, test=("s3",)))
    segmenter = make_segmenter(tmp_path / "segmenter", store.plan)
    label = tmp_path / "raw/labelsTr/s3.nii.gz"
    image = sitk.ReadImage(str(label))
    image[10, 10, 2] = LABELS["ring"] if image[10, 10, 2] != LABELS["ring"] else 0
    sitk.WriteImage(image, str(label))
    with pytest.raises(DataError, match="is not the label that was prepared"):
        evaluate.run(settings(store, segmenter, tmp_path / "scores"))
    label.unlink()
    with pytest.raises(DataError, match="is gone") as caught:
        evaluate.run(settings(store, segmenter, tmp_path / "scores"))
    assert "grid=prepared" in str(caught.value)
    evaluate.run(settings(store, segmenter, tmp_path / "scores", grid="prepared"))


def test_another_plan_is_refused(store, tmp_path):
    plan = json.loads(json.dumps({**store.plan, "spacing": [1.0, 1.0]}))
    other = make_segmenter(tmp_path / "other", plan)
    with pytest.raises(DataError, match="spacing") as caught:
        evaluate.run(settings(store, other, tmp_path / "scores"))
    assert "[1.0, 1.0] then, [2.0, 1.5] now" in str(caught.value)


def test_parts_and_folders_must_fit(store, segmenter, tmp_path):
    with pytest.raises(SettingsError, match="Did you mean test"):
        evaluate.run(settings(store, segmenter, tmp_path / "scores", part="tset"))
    with pytest.raises(DataError, match="labelled scans"):
        evaluate.run(settings(store, segmenter, tmp_path / "scores", part="validation"))
    with pytest.raises(ArtifactError, match="segmenter"):
        evaluate.run(settings(store, store.folder, tmp_path / "scores"))


def test_a_second_run_keeps_and_another_refuses(store, segmenter, tmp_path):
    out = evaluate.run(settings(store, segmenter, tmp_path / "scores", surface=False))
    before = (out / "manifest.json").stat().st_mtime_ns
    evaluate.run(settings(store, segmenter, tmp_path / "scores", surface=False, batch=2))
    assert (out / "manifest.json").stat().st_mtime_ns == before
    with pytest.raises(SettingsError, match="other settings"):
        evaluate.run(settings(store, segmenter, tmp_path / "scores", surface=False, flip=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(SettingsError, match=r"is not empty\. Give another --out"):
        evaluate.run(settings(store, segmenter, tmp_path / "mine"))
    assert (tmp_path / "mine/notes.txt").read_text() == "keep"
