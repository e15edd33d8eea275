"""What predict and evaluate say of an ensemble: masks by the mean, maps on the scan's grid, disagreement, its worth."""

from __future__ import annotations

import math
import shutil
from itertools import combinations

import nibabel
import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import ArtifactError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.engine import ensemble
from fewlabel.engine.inference import folded, predict_volume
from fewlabel.engine.weight_files import load_members, load_segmenter
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.scoring.metrics import dice_per_class
from fewlabel.scoring.voxel_uncertainty import entropy
from fewlabel.stages import evaluate, report
from fewlabel.stages.predict import segmentation
from kit.scans import TILTED, write_scan
from kit.segmenters import LABELS, as_slabs, bright_is_core, disc_plan, make_segmenter, nested_discs, prepared_discs
from kit.tiny import run_predict as run

GEOMETRY = {"spacing": (2.0, 2.0, 9.0), "origin": (3, -4, 50), "direction": TILTED}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("models") / "pair", disc_plan(), members=2)


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    return make_segmenter(tmp_path_factory.mktemp("models") / "single", disc_plan())


@pytest.fixture
def divided(monkeypatch):
    """Two members that are certain: the second takes the core for ring."""
    calls = []

    def answer(network, array, **_):
        calls.append(network)
        background, core, ring = bright_is_core(network, array)
        first = len(calls) % 2 == 1
        return np.stack([background, core, ring] if first else [background, 0 * core, ring + core])

    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answer))


def picture(mask):
    return (10.0 * (mask == LABELS["ring"]) + 20.0 * (mask == LABELS["core"])).astype(np.float32)


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


# Prediction.


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_two_members_that_are_sure_of_different_things_have_log_2_there(pair, divided, tmp_path, suffix):
    mask = nested_discs(1)
    scan = write_scan(tmp_path / f"in/scan{suffix}", picture(mask), **GEOMETRY)
    out = run(pair, scan, tmp_path / "out", uncertainty=True)
    written, reference = sitk.ReadImage(str(out / f"scan_uncertainty{suffix}")), sitk.ReadImage(str(scan))
    assert written.GetPixelID() == sitk.sitkFloat32
    for fact in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(written, fact)() == pytest.approx(getattr(reference, fact)())
    core = mask == LABELS["core"]
    np.testing.assert_allclose(sitk.GetArrayFromImage(written), np.where(core, math.log(2), 0), atol=1e-5)
    row = pd.read_csv(out / "predictions.csv").iloc[0]
    ring, both = (mask == LABELS["ring"]).sum(), (mask > 0).sum()
    # Core: found by one of them alone. Ring: Dice of the ring and of ring and core.
    assert row["disagreement"] == pytest.approx((1 + 1 - 2 * ring / (ring + both)) / 2, abs=1e-4)
    # Half of the vote each: confidence is one half in the core.
    assert row["confidence"] == pytest.approx((ring + 0.5 * core.sum()) / both, abs=1e-4)
    assert f"scan_uncertainty{suffix}" in Artifact.open(out, "predictions").manifest.files
    told = read_json(out / "run_report.json")
    assert told["model"]["members"] == 2
    assert told["uncertainty"].startswith("Mutual information between member and class")


def test_a_picture_has_its_map_as_nifti(divided, tmp_path):
    model = make_segmenter(tmp_path / "m", disc_plan(spacing=(1.0, 1.0)), members=2)
    mask = nested_discs(0)[:1]
    sitk.WriteImage(sitk.GetImageFromArray((10 * picture(mask)[0]).astype(np.uint8)), str(tmp_path / "slide.png"))
    out = run(model, tmp_path / "slide.png", tmp_path / "out", uncertainty=True)
    assert {path.name for path in out.glob("slide*")} == {"slide.png", "slide_uncertainty.nii.gz"}
    found = read(out / "slide_uncertainty.nii.gz")
    np.testing.assert_allclose(found, np.where(mask[0] == LABELS["core"], math.log(2), 0), atol=1e-5)


def test_every_frame_of_a_cine_has_its_map_and_its_disagreement(pair, divided, tmp_path):
    masks = np.stack([nested_discs(0), 0 * nested_discs(0)])
    # One bright voxel keeps the second frame's range.
    masks[1, 0, 0, 0] = LABELS["ring"]
    data = picture(masks).transpose(3, 2, 1, 0)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([2, 2, 9, 1])), tmp_path / "cine.nii.gz")
    out = run(pair, tmp_path / "cine.nii.gz", tmp_path / "out", uncertainty=True)
    for number in (1, 2):
        assert nibabel.load(out / f"cine_frame0{number}_uncertainty.nii.gz").shape == (22, 26, 6)
    assert read(out / "cine_frame01_uncertainty.nii.gz").max() == pytest.approx(math.log(2), abs=1e-5)
    assert len(pd.read_csv(out / "predictions.csv")["disagreement"].dropna()) == 2


def test_the_map_of_one_network_is_the_entropy_of_its_softmax(single, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    out = run(single, scan, tmp_path / "out", uncertainty=True, probabilities=True, precision="32")
    probabilities = np.asarray(nibabel.load(out / "a_probabilities.nii.gz").dataobj).transpose(3, 2, 1, 0)
    np.testing.assert_allclose(read(out / "a_uncertainty.nii.gz"), entropy(probabilities), atol=1e-5)
    assert "disagreement" not in pd.read_csv(out / "predictions.csv")
    told = read_json(out / "run_report.json")
    assert told["model"]["members"] == 1
    assert told["uncertainty"].startswith("Entropy of the one network's softmax")


def test_a_map_that_was_not_asked_for_is_not_made(pair, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    out = run(pair, scan, tmp_path / "out")
    assert not list(out.glob("*uncertainty*"))
    assert read_json(out / "run_report.json")["uncertainty"] == ""
    assert 0 <= pd.read_csv(out / "predictions.csv")["disagreement"][0] <= 1


def test_the_mask_is_that_of_the_mean(pair, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz", np.random.default_rng(0).random((5, 30, 19), np.float32), **GEOMETRY)

    def probabilities(model, out):
        folder = run(model, scan, tmp_path / out, probabilities=True, precision="32")
        return np.asarray(nibabel.load(folder / "a_probabilities.nii.gz").dataobj)

    alone = [
        probabilities(make_segmenter(tmp_path / f"m{i}", disc_plan(), network=load_segmenter(pair, i)[0]), f"out{i}")
        for i in range(2)
    ]
    assert np.abs(alone[0] - alone[1]).max() > 1e-3
    found = probabilities(pair, "out")
    np.testing.assert_allclose(found, np.mean(alone, axis=0), atol=1e-5)
    values = np.array(list(LABELS.values()))
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.nii.gz").transpose(2, 1, 0), values[found.argmax(-1)])


def test_a_scan_is_read_and_resampled_once_however_many_members(tmp_path, monkeypatch):
    model = make_segmenter(tmp_path / "m", disc_plan(), members=4)
    scan = write_scan(tmp_path / "a.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    counts = dict.fromkeys(("read_volume", "ScanPreparation", "Restoration"), 0)

    def counted(name, original):
        def call(*words):
            counts[name] += 1
            return original(*words)

        return call

    for name in counts:
        monkeypatch.setattr(segmentation, name, counted(name, getattr(segmentation, name)))
    run(model, scan, tmp_path / "out", uncertainty=True)
    assert set(counts.values()) == {1}


def test_maps_are_no_scans_and_not_replaced_unless_asked(pair, divided, tmp_path):
    home = tmp_path / "in"
    write_scan(home / "a.nrrd", picture(nested_discs(0)), **GEOMETRY)
    write_scan(home / "a_uncertainty.nrrd", picture(nested_discs(0)), **GEOMETRY)
    out = run(pair, home, tmp_path / "out")
    assert not (out / "a_uncertainty.nrrd").exists()
    assert pd.read_csv(out / "predictions.csv")["output"].tolist() == ["a.nrrd"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "a_uncertainty.nrrd").write_text("mine")
    with pytest.raises(SettingsError, match="overwrite=true") as caught:
        run(pair, home, other, uncertainty=True)
    assert [fault.problem for fault in caught.value.faults] == [f"{other / 'a_uncertainty.nrrd'} is there already"]
    assert [path.name for path in other.iterdir()] == ["a_uncertainty.nrrd"]
    run(pair, home, other, uncertainty=True, overwrite=True)
    assert read(other / "a_uncertainty.nrrd").max() == pytest.approx(math.log(2), abs=1e-5)


def test_rows_of_a_single_network_stay_beside_those_of_an_ensemble(pair, single, tmp_path):
    for name in ("a", "b"):
        write_scan(tmp_path / f"{name}.nii", picture(nested_discs(0)), **GEOMETRY)
    out = run(single, tmp_path / "a.nii", tmp_path / "out")
    run(pair, tmp_path / "b.nii", out)
    found = pd.read_csv(out / "predictions.csv").set_index("output")["disagreement"]
    assert found.isna().tolist() == [True, False]


# Files of members.


def test_a_damaged_or_missing_member_is_named(pair, tmp_path):
    scan = write_scan(tmp_path / "a.nii.gz", picture(nested_discs(0)), **GEOMETRY)
    for number, spoil in enumerate((lambda path: path.write_bytes(path.read_bytes()[:-9]), lambda path: path.unlink())):
        model = tmp_path / f"model{number}"
        shutil.copytree(pair, model)
        spoil(model / "member-1" / "segmenter.safetensors")
        with pytest.raises(ArtifactError, match=r"member-1/segmenter\.safetensors") as caught:
            run(model, scan, tmp_path / "out")
        assert str(model) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_member_of_another_architecture_is_named(tmp_path):
    plan = disc_plan()
    other = make_segmenter(tmp_path / "other", plan, network=UNet(UNetConfig(width=8, depth=3), 3))
    model = make_segmenter(tmp_path / "model", plan, members=2)
    shutil.copy(other / "segmenter.safetensors", model / "member-1" / "segmenter.safetensors")
    (model / "manifest.json").unlink()
    with pytest.raises(ArtifactError, match=r"member-1/segmenter\.safetensors"):
        load_members(model)


# Evaluation.


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return PreparedStore(prepared_discs(tmp_path_factory.mktemp("evaluate"), test=("s3", "s4", "s5", "s6")))


def scored(store, out, **arms):
    values = {"data": store.folder, "out": out, "device": "cpu", "resamples": 20, "precision": "32"}
    return evaluate.run(evaluate.EvaluateSettings.parse({**values, **arms}))


def test_scores_are_those_of_the_mean_and_say_how_far_members_lie_apart(store, tmp_path):
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s1"], members=3)
    control = make_segmenter(tmp_path / "control", store.plan, labelled_subjects=["s1"])
    out = scored(store, tmp_path / "scores", segmenter=model, control=control)
    table, summary = pd.read_parquet(out / "per_case.parquet"), read_json(out / "summary.json")
    networks, _ = load_members(model)
    cases = {case.id: case for case in store.cases}
    means = []
    for name in ("s3", "s4", "s5", "s6"):
        images = np.asarray(store.images[cases[name].start : cases[name].stop], np.float32).swapaxes(0, 1)
        alone = [predict_volume(folded(network), images, precision="32") for network in networks]
        masks = [found.argmax(0) for found in alone]
        apart = 1 - np.mean([dice_per_class(a, b, 3) for a, b in combinations(masks, 2)], axis=0)
        rows = table[(table["arm"] == "model") & (table["case"] == name)]
        assert rows["disagreement"].tolist() == pytest.approx(apart.tolist())
        assert abs(apart[0] - apart[1]) > 0.01
        means.append(apart.mean())
    assert table[table["arm"] == "control"]["disagreement"].isna().all()
    assert table.columns[-1] == "disagreement"
    assert list(summary["disagreement"]) == ["model"]
    assert summary["disagreement"]["model"]["mean"] == pytest.approx(np.mean(means))
    assert summary["disagreement"]["model"]["cases"] == 4
    assert "prepared grid" in summary["protocol"]["disagreement"]
    assert summary["segmenters"]["model"]["members"] == 3
    # Predicting a scan gives the same figure: store and scan lie on one grid.
    masks = run(model, store.folder.parent / "raw" / "imagesTr" / "s3_0000.nii.gz", tmp_path / "masks", precision="32")
    assert pd.read_csv(masks / "predictions.csv")["disagreement"][0] == pytest.approx(means[0], abs=0.02)


def test_disagreement_that_follows_the_errors_is_worth_its_rank(store, tmp_path, monkeypatch):
    """Two members; the further the second shifts a mask, the worse the mean and the larger the disagreement."""
    known = {case.id: np.array(store.labels[case.start : case.stop]) for case in store.cases}
    images = {case.id: np.asarray(store.images[case.start : case.stop], np.float32) for case in store.cases}
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s1"], members=2)
    calls = []

    def answer(network, array, **_):
        calls.append(network)
        name = next(key for key, value in images.items() if np.array_equal(value.swapaxes(0, 1), array))
        mask = known[name] if network is calls[0] else np.roll(known[name], int(name[1:]) - 2, axis=1)
        sure = (mask[None] == np.arange(3)[:, None, None, None]).astype(np.float32)
        # The shifted member is the surer one, so the mean follows it.
        return sure if network is not calls[0] else 0.5 * sure + 0.5 / 3

    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answer))
    out = scored(store, tmp_path / "scores", segmenter=model)
    summary = read_json(out / "summary.json")
    assert summary["disagreement"]["model"]["spearman"] == pytest.approx(-1)
    page = report.run(report.ReportSettings(prepared=store.folder, segmenter=model, scores=out, out=tmp_path / "page"))
    html = (page / "report.html").read_text()
    assert "its networks disagree by" in html
    assert "rank correlation with mean Dice over 4 scans is \N{MINUS SIGN}1.00" in html


def test_scores_of_single_networks_are_as_before(store, tmp_path):
    model = make_segmenter(tmp_path / "model", store.plan, labelled_subjects=["s1"])
    out = scored(store, tmp_path / "scores", segmenter=model)
    assert list(pd.read_parquet(out / "per_case.parquet").columns) == list(evaluate.COLUMNS)
    summary = read_json(out / "summary.json")
    assert summary["disagreement"] == {}
    assert "disagreement" not in summary["protocol"]
