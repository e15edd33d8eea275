"""Volumes from h5 files to masks: a 3D network learns from patches, resumes, is scored and predicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.engine import ensemble
from fewlabel.engine.inference import WINDOW, window_of
from fewlabel.engine.loop import Loop
from fewlabel.engine.record import read_record
from fewlabel.engine.weight_files import load_segmenter, save_encoder
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.stages import evaluate, finetune, predict, prepare
from fewlabel.stages.finetune import trainer
from kit.h5 import atrium_folder, ball
from kit.segmenters import make_segmenter
from kit.tiny import NETWORK, checked, finetune_settings

PATCH = [8, 16, 16]


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return atrium_folder(tmp_path_factory.mktemp("volumes") / "la", ["a", "b", "c", "d"], ["t"], unlabelled=["c", "d"])


@pytest.fixture(scope="module")
def store(raw: Path) -> Path:
    return prepare.run(prepare.PrepareSettings.parse({"data": raw, "out": raw.parent / "prepared", "workers": 1}))


def settings(store: Path, out: Path, **over):
    return finetune_settings(store, out, **{"patch": PATCH, "steps": 4, "batch": 2, **over})


@pytest.fixture(scope="module")
def segmenter(store: Path) -> Path:
    over = {"regime": "supervised", "steps": 30, "batch": 4, "optimiser": {"lr": 2e-2}}
    return finetune.run(settings(store, store.parent / "segmenter", **over))


def test_preparation_says_what_it_assumed_and_keeps_every_voxel(raw: Path, store: Path) -> None:
    found = PreparedStore(store)
    assert found.images.shape == (60, 1, 32, 32)
    assert found.plan["spacing"] == [0.625, 0.625]
    assert any("no voxel size: taken as 0.625" in note for note in read_json(store / "qc.json")["notes"])
    assert found.split["parts"]["test"] == ["t"]
    test = next(case for case in found.cases if case.id == "t")
    _, mask = ball(4)
    padded = np.zeros((12, 32, 32), np.uint8)
    padded[:, 7:26, 5:27] = mask.transpose(2, 1, 0)
    np.testing.assert_array_equal(found.labels[test.start : test.stop], padded)
    again = prepare.PrepareSettings.parse({"data": raw, "out": store, "workers": 1})
    before = (store / "images.npy").stat().st_mtime_ns
    prepare.run(again)
    assert (store / "images.npy").stat().st_mtime_ns == before


def test_a_3d_network_learns_from_patches(store: Path, segmenter: Path) -> None:
    network, facts = load_segmenter(segmenter)
    assert network.config.ndim == 3
    assert facts["patch"] == PATCH
    assert window_of(facts) == tuple(PATCH)
    assert window_of({}) == window_of({"patch": None}) == WINDOW
    losses = [row["loss"] for row in read_record(segmenter / "metrics.jsonl")]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


def test_scores_and_masks_come_from_windows_of_the_patch(
    raw: Path, segmenter: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = ensemble.predict_slabs

    def watched(*args, **named):
        seen.append(named["window"])
        return original(*args, **named)

    monkeypatch.setattr(ensemble, "predict_slabs", watched)
    # In bfloat16 the store's rounding to float16 turns some voxels on the border.
    exact = {"device": "cpu", "precision": "32"}
    values = {"data": store, "segmenter": segmenter, "out": tmp_path / "scores", "resamples": 20, **exact}
    evaluate.run(evaluate.EvaluateSettings.parse(values))
    scored = read_json(tmp_path / "scores" / "summary.json")["arms"]["model"]["mean"]["dice"]["mean"]
    assert scored > 0.5
    values = {"model": segmenter, "scans": raw, "out": tmp_path / "masks", **exact}
    predict.run(predict.PredictSettings.parse(values))
    assert seen == [tuple(PATCH)] * 6
    assert sorted(path.name for path in (tmp_path / "masks").glob("*.nii.gz")) == [f"{n}.nii.gz" for n in "abcdt"]
    mask = sitk.ReadImage(str(tmp_path / "masks" / "t.nii.gz"))
    assert mask.GetSize() == (22, 19, 12)
    assert mask.GetSpacing() == pytest.approx((0.625,) * 3)
    truth = ball(4)[1].transpose(2, 1, 0)
    found = sitk.GetArrayFromImage(mask)
    assert 2 * (found & truth).sum() / (found.sum() + truth.sum()) == pytest.approx(scored, abs=1e-3)
    one = {**values, "scans": raw / "t" / "mri_norm2.h5", "out": tmp_path / "one"}
    predict.run(predict.PredictSettings.parse(one))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "one" / "t.nii.gz"))), found)


def test_prediction_reads_h5_files_as_preparation_did(
    raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files hold no voxel size: what prepare was told goes with the model, and can be told otherwise."""

    def told(out: str, scans: Path = raw, **over) -> tuple[tuple[float, ...], list[str]]:
        values = {"model": model, "scans": scans, "out": tmp_path / out, "device": "cpu"}
        lines: list[str] = []
        monkeypatch.setattr(predict, "say", lines.append)
        predict.run(predict.PredictSettings.parse({**values, **over}))
        mask = sitk.ReadImage(str(tmp_path / out / "t.nii.gz"))
        return mask.GetSpacing(), lines[:-1]

    reader = {"name": "ssl4mis", "spacing": [3.0, 0.75, 0.5]}
    values = {"data": raw, "out": tmp_path / "prepared", "workers": 1, "reader": reader}
    prepared = prepare.run(prepare.PrepareSettings.parse(values))
    over = {"patch": None, "steps": 1, "labelled": 1}
    model = finetune.run(settings(prepared, tmp_path / "model", **over))
    assert read_json(model / "segmenter.json")["reader"] == reader
    known = "reader ssl4mis as for the model's own scans: spacing=[3.0, 0.75, 0.5]"
    assert told("folder") == (pytest.approx((0.5, 0.75, 3.0)), [known])
    assert told("file", raw / "t" / "mri_norm2.h5") == (pytest.approx((0.5, 0.75, 3.0)), [known])
    assert told("by name", reader="ssl4mis") == (pytest.approx((0.5, 0.75, 3.0)), [known])
    named = {"name": "ssl4mis", "spacing": [2.0, 1.0, 1.0]}
    assert told("otherwise", reader=named) == (pytest.approx((1.0, 1.0, 2.0)), [])
    usual, notes = told("usual", reader={"name": "ssl4mis", "spacing": None})
    assert usual == pytest.approx((0.625,) * 3)
    assert [note[:28] for note in notes] == ["h5 files hold no voxel size:"]
    # As models were made before there was such a record.
    facts = read_json(model / "segmenter.json")
    old = make_segmenter(tmp_path / "older", facts["plan"], network=load_segmenter(model)[0])
    model = old
    assert told("old")[0] == pytest.approx((0.625,) * 3)


@pytest.mark.parametrize("regime", ["supervised", "mean_teacher"])
def test_training_on_patches_resumes_bit_identically(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, regime: str
) -> None:
    class PowerCut(BaseException):
        pass

    def log(self, step, *rest, original=Loop._log):
        original(self, step, *rest)
        if step == 1:
            raise PowerCut

    def run(name: str, **over):
        return finetune.run(settings(store, tmp_path / name, regime=regime, checkpoint_seconds=0, **over))

    run("whole")
    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_log", log)
        with pytest.raises(PowerCut):
            run("cut")
    run("cut", resume=True)
    for name in ("segmenter.safetensors", "segmenter.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    if regime == "mean_teacher":
        rows = read_record(tmp_path / "whole" / "metrics.jsonl")
        assert rows[-1]["unlabelled_weight"] > 0


def test_a_regime_from_scratch_has_a_supervised_control_of_equal_budget(store: Path, tmp_path: Path) -> None:
    over = {"steps": 2, "labelled": 1, "draw": 1}
    regime = {"name": "mean_teacher", "dice_smooth": 2.0}
    finetune.run(settings(store, tmp_path / "model", regime=regime, control=True, **over))
    alone = {"name": "supervised", "dice_smooth": 2.0}
    finetune.run(settings(store, tmp_path / "alone", regime=alone, control=True, **over))
    assert not (tmp_path / "alone-control").exists()
    for name in ("segmenter.safetensors", "segmenter.json"):
        control = (tmp_path / "model-control" / name).read_bytes()
        assert control == (tmp_path / "alone" / name).read_bytes(), name
    assert read_json(tmp_path / "model" / "segmenter.json")["regime"] == "mean_teacher"
    kept = finetune.run(settings(store, tmp_path / "model", regime=regime, control=True, resume=True, **over))
    assert read_json(kept.with_name("model-control") / "segmenter.json")["regime"] == "supervised"


def test_validation_looks_through_windows_of_the_patch(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    original = trainer.predict_volume

    def watched(*args, **named):
        seen.append(named["window"])
        return original(*args, **named)

    monkeypatch.setattr(trainer, "predict_volume", watched)
    out = finetune.run(settings(store, tmp_path / "out", validation="leave_one_out", steps=2, validate_every=1))
    assert set(seen) == {tuple(PATCH)}
    assert len(seen) == 4
    assert read_json(out / "segmenter.json")["best_step"] in (1, 2)


def test_what_does_not_fit_is_refused_before_any_work(store: Path, tmp_path: Path) -> None:
    def told(**over) -> str:
        with pytest.raises(SettingsError) as caught:
            finetune.run(finetune_settings(store, tmp_path / "never", **over))
        return str(caught.value)

    assert "patch: sides must be multiples of 4" in told(patch=[8, 16, 18])
    assert "Give patch=[8,16,16], for example" in told(patch=[8, 16, 18])
    small = {**NETWORK, "ndim": 3, "norm": "instance"}
    assert "patch: images must be larger than one cell of the smallest map" in told(patch=[4, 4, 4], network=small)
    assert "patch: must be three positive numbers (depth, height, width), not [8, 16]" in told(patch=[8, 16])
    assert "patch: must be three positive numbers (depth, height, width), not [8, 16, 0]" in told(patch=[8, 16, 0])
    assert "network.ndim: is 3 without a patch size" in told(network={**NETWORK, "ndim": 3})
    encoder = tmp_path / "encoder"
    encoder.mkdir()
    save_encoder(encoder, UNetEncoder(UNetConfig(**NETWORK)), {})
    finish_artifact(encoder, "encoder", ["encoder.safetensors", "encoder.json"])
    assert "is a 2D encoder, and patches need a 3D one" in told(patch=PATCH, encoder=encoder)
    assert not (tmp_path / "never").exists()


def test_a_regime_of_slices_and_a_bad_patch_are_told_at_once(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewlabel.regimes.supervised import Supervised

    monkeypatch.setattr(Supervised, "supports_3d", False)
    with pytest.raises(SettingsError) as caught:
        finetune_settings(store, tmp_path, patch=[8, 16])
    assert "regime: supervised does not work on 3D patches" in str(caught.value)
    assert "patch: must be three positive numbers" in str(caught.value)
    assert finetune_settings(store, tmp_path).patch is None


def test_an_encoder_of_volumes_is_taken_over(store: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = UNetEncoder(UNetConfig(**NETWORK, ndim=3))
    (tmp_path / "encoder").mkdir()
    save_encoder(tmp_path / "encoder", encoder, {})
    finish_artifact(tmp_path / "encoder", "encoder", ["encoder.safetensors", "encoder.json"])
    over = {"encoder": tmp_path / "encoder", "mode": "frozen", "steps": 1}
    network, _ = load_segmenter(finetune.run(settings(store, tmp_path / "out", **over)))
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], tensor), name
    with pytest.raises(SettingsError, match="is a 3D encoder, and slices need a 2D one"):
        finetune.run(finetune_settings(store, tmp_path / "no", encoder=tmp_path / "encoder"))


def test_the_shared_left_atrium_trains(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "la"
    if not source.is_dir():
        pytest.skip("the left atrium set is not beside this checkout")
    root = tmp_path / "la"
    root.mkdir()
    names = {part: (source / f"{part}.list").read_text().split() for part in ("train", "test")}
    for part, count in (("train", 2), ("test", 1)):
        (root / f"{part}.list").write_text("\n".join(names[part][:count]))
        for name in names[part][:count]:
            (root / name).symlink_to(source / name, target_is_directory=True)
    found = checked(root)
    assert found.faults == ()
    assert ("with a label", "3 scans of 3 subjects") in found.rows
    values = {"data": root, "out": tmp_path / "prepared", "spacing": [2.5, 2.5], "size": [48, 64], "workers": 1}
    store = PreparedStore(prepare.run(prepare.PrepareSettings.parse(values)))
    assert store.images.shape == (3 * 88, 1, 48, 64)
    assert store.label_names == {0: "background", 1: "left atrium"}
    assert read_json(tmp_path / "prepared" / "qc.json")["notes"]
    assert 0.02 < float((store.labels == 1).mean()) < 0.2
    over = {"patch": [16, 32, 32], "labelled": 1, "regime": "mean_teacher", "steps": 2, "batch": 1}
    out = finetune.run(finetune_settings(tmp_path / "prepared", tmp_path / "out", **over))
    rows = read_record(out / "metrics.jsonl")
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert rows[-1]["unlabelled_weight"] > 0
