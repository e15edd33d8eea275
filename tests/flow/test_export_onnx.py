"""A segmenter as an ONNX model: the same masks by onnxruntime, checked before anything is written."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import SimpleITK as sitk
import torch
from typer.testing import CliRunner

import fewlabel
from fewlabel.cli import app
from fewlabel.core.errors import ArtifactError, DataError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.export import exported_model_agreement, onnx_model
from fewlabel.stages.export.bundle_scripts import network as shipped
from kit.scans import noise, write_scan
from kit.segmenters import make_segmenter, prepared_discs

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "exports.md"


def unsure_network(config, classes=3):
    """A network whose classes are all somewhere."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = UNet(config, classes)
        torch.nn.init.normal_(network.classifier.weight, std=30.0)
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
    return network


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with slices of odd sides and two members."""
    home = tmp_path_factory.mktemp("run")
    prepared = prepared_discs(home, ["s1"], ["s2"], size=[30, 22])
    network = unsure_network(UNetConfig(width=4, depth=3))
    make_segmenter(home / "segmenter", PreparedStore(prepared).plan, [prepared], network, members=2)
    return home


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("onnx") / "segmenter.onnx"
    result = CliRunner(env={"COLUMNS": "500"}).invoke(app, ["export", str(run), "--to", "onnx", "--out", str(out)])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(out)
    assert "ms by onnxruntime" in result.stderr
    return out


def test_onnxruntime_gives_the_probabilities_of_predict(run, exported):
    described = json.loads(exported.with_suffix(".json").read_text())
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    segmenter, store = Segmenter.load(run / "segmenter"), PreparedStore(run / "prepared")
    # More slices at once than when it was exported, and one.
    for array in (store.images[:7].astype(np.float32), store.images[7:8].astype(np.float32)):
        found = session.run([described["names"]["output"]], {described["names"]["input"]: array})[0]
        wanted = segmenter.predict(array.transpose(1, 0, 2, 3), precision="32").probabilities.transpose(1, 0, 2, 3)
        np.testing.assert_allclose(found, wanted, atol=1e-5)
        assert len(np.unique(found.argmax(axis=1))) > 1
    assert described["output"]["classes"] == list(store.label_names.values())
    assert described["input"]["size"] == [30, 22]
    assert described["members"] == 2
    assert described["checked"]["dice"] < exported_model_agreement.TOLERANCE
    assert described["checked"]["slices"] >= 3
    assert described["content_hash"] == segmenter.content_hash


def test_the_model_is_sound_and_says_nothing_of_the_machine(exported):
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    content = exported.read_bytes()
    assert str(exported.parent).encode() not in content
    assert b".py" not in content


def test_the_guides_example(run, exported, tmp_path, monkeypatch):
    (tmp_path / "fewlabel-demo").symlink_to(run, target_is_directory=True)
    (tmp_path / "exported").symlink_to(exported.parent, target_is_directory=True)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    scan = write_scan(tmp_path / "scan.nii.gz", noise((4, 40, 30)), (1.5, 2.0, 8.0))
    names = {"SCAN": scan}
    exec(compile(code, str(GUIDE), "exec"), names)
    values = {"model": run, "scans": scan, "out": tmp_path / "mask.nii.gz", "device": "cpu"}
    fewlabel.predict(**values, precision="32", postprocess=False)
    mask = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "mask.nii.gz")))
    np.testing.assert_array_equal(np.array(names["plan"].label_values)[names["mask"]], mask)


@pytest.mark.slow
def test_windows_of_a_volume(tmp_path):
    """Logits of all members, of windows of any size, joined as predict joins them."""
    prepared = prepared_discs(tmp_path, ["s1"], ["s2"], size=[24, 16])
    network = unsure_network(UNetConfig(ndim=3, width=4, depth=3, norm="instance"))
    plan = PreparedStore(prepared).plan
    folder = make_segmenter(tmp_path / "m", plan, [prepared], network, members=2, patch=[8, 16, 16])
    out = fewlabel.export(source=folder, to="onnx", out=tmp_path / "m.onnx")
    assert json.loads(out.with_suffix(".json").read_text())["input"]["window"] == [8, 16, 16]
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    segmenter = Segmenter.load(folder)
    array = np.random.default_rng(0).random((1, 5, 24, 20), np.float32)
    found = shipped.predict_volume(
        lambda windows: torch.from_numpy(session.run(None, {"windows": windows.numpy()})[0]),
        torch.from_numpy(array),
        ndim=3,
        stride=4,
        members=2,
        window=(8, 16, 16),
    )
    np.testing.assert_allclose(found, segmenter.predict(array, precision="32").probabilities, atol=1e-5)


def test_a_model_that_differs_is_not_written(run, tmp_path, monkeypatch):
    def wrong(content, name):
        return lambda images: torch.rand(len(images), 3, *images.shape[2:])

    monkeypatch.setattr(onnx_model, "_converted", lambda members, segmenter: (b"model", ("slices", "probabilities")))
    monkeypatch.setattr(onnx_model, "_runtime", wrong)
    with pytest.raises(DataError, match=r"differ from PyTorch's by [01][.\d]* in Dice, more than 0\.002"):
        fewlabel.export(source=run, to="onnx", out=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


def test_what_the_model_is_checked_on(run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_model, "_converted", lambda members, segmenter: (b"model", ("slices", "probabilities")))
    calls = []

    def runs(content, name):
        segmenter = Segmenter.load(run / "segmenter")
        members = shipped.Segmenter(segmenter.networks, 2, 4)

        def forward(images):
            calls.append(images)
            with torch.inference_mode():
                return members(images)

        return forward

    monkeypatch.setattr(onnx_model, "_runtime", runs)
    home = tmp_path / "moved"
    shutil.copytree(run / "segmenter", home)
    with pytest.raises(ArtifactError, match=r"is not there any more\. Give scans"):
        fewlabel.export(source=home, to="onnx", out=tmp_path / "m.onnx")
    for name, words in {"nothing": "does not exist", "moved": "holds no scans"}.items():
        with pytest.raises(DataError, match=words):
            fewlabel.export(source=home, to="onnx", out=tmp_path / "m.onnx", scans=tmp_path / name)
    for number in range(6):
        write_scan(tmp_path / "scans" / f"{number}.nii.gz", noise((2, 40, 30), number))
    fewlabel.export(source=home, to="onnx", out=tmp_path / "m.onnx", scans=tmp_path / "scans")
    assert json.loads((tmp_path / "m.json").read_text())["checked"]["scans"] == exported_model_agreement.MOST_SCANS
    assert {tuple(images.shape[1:]) for images in calls} == {(1, 30, 22)}


def test_settings_of_other_targets_and_the_extra(run, tmp_path, monkeypatch):
    with pytest.raises(SettingsError, match=r"scans: is for to=onnx and to=monai_bundle, not for to=monai"):
        fewlabel.export(source=run, to="monai", out=tmp_path / "m.pt", scans=tmp_path)
    with pytest.raises(SettingsError, match=r"must end in \.onnx, not"):
        fewlabel.export(source=run, to="onnx", out=tmp_path / "m.pt")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(SettingsError, match=r"needs onnxscript.*fewlabel\[onnx\]"):
        fewlabel.export(source=run, to="onnx", out=tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())
