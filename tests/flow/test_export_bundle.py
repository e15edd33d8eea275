"""A segmenter as a MONAI bundle: MONAI's own command gives the masks of predict, without this package."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import nibabel
import numpy as np
import pytest
import torch

import fewlabel
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.engine.inference import folded
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.scoring.component_rule import ComponentRule
from fewlabel.stages import predict
from fewlabel.stages.export import bundle
from fewlabel.stages.export.bundle_scripts import network as shipped
from fewlabel.stages.export.bundle_scripts.predicting import scans_in
from fewlabel.stages.export.bundle_sources import bundle_sources
from kit.scans import TILTED, noise, write_scan
from kit.segmenters import make_segmenter, prepared_discs

#: MONAI's specification: what metadata.json must have.
REQUIRED = {"version", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "description"}
REQUIRED |= {"authors", "copyright", "network_data_format"}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run with slices of odd sides, two members and a rule that cleans."""
    home = tmp_path_factory.mktemp("run")
    prepared = prepared_discs(home, ["eleanor"], ["s2"], size=[30, 22])
    rule = ComponentRule(foreground=True, largest=(1,), least_mm3={2: 60.0}).record()
    make_segmenter(home / "segmenter", PreparedStore(prepared).plan, [prepared], members=2, postprocess=rule)
    return home


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    return fewlabel.export(source=run, to="monai_bundle", out=tmp_path_factory.mktemp("bundle") / "bundle")


def awkward_scans(folder):
    """A tilted scan, one whose spacing is in pixdim alone, and one of integers with its slices along x."""
    write_scan(folder / "tilted.nii.gz", noise((5, 40, 33)), (1.2, 0.8, 6.0), (5, -7, 11), TILTED)
    image = nibabel.Nifti1Image(noise((4, 30, 26), 1).transpose(2, 1, 0), None)
    image.header.set_sform(np.diag([-1, -1, 1, 1]), code=2)
    image.header["qform_code"], image.header["pixdim"][1:4] = 0, (1.37, 1.37, 10.0)
    image.header["descrip"] = b"eleanor"
    nibabel.save(image, folder / "acdc.nii.gz")
    turned = (noise((30, 26, 6), 2)).astype(np.int16)
    write_scan(folder / "turned.nii", turned, (8.0, 1.1, 1.3))
    return folder


def test_monais_command_gives_the_masks_of_predict(run, exported, tmp_path):
    scans = awkward_scans(tmp_path / "scans")
    elsewhere = tmp_path / "elsewhere" / "fewlabel"
    elsewhere.mkdir(parents=True)
    (elsewhere / "__init__.py").write_text('raise ImportError("a bundle does without")')
    masks = tmp_path / "masks"
    words = ["--bundle_root", exported, "--config_file", exported / "configs" / "inference.json"]
    words += ["--dataset_dir", scans, "--output_dir", masks]
    environment = {**os.environ, "PYTHONPATH": str(elsewhere.parent), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "monai.bundle", "run", *map(str, words)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = ["acdc.nii.gz", "tilted.nii.gz", "turned.nii.gz"]
    assert [line for line in done.stdout.splitlines() if line.startswith(str(masks))] == [
        str(masks / name) for name in names
    ]
    values = {"model": run, "scans": scans, "out": tmp_path / "ours", "device": "cpu", "precision": "32"}
    ours = predict.run(predict.PredictSettings.parse({**values, "format": "nifti"}))
    predicted = set()
    for name in names:
        one, two = nibabel.load(masks / name), nibabel.load(ours / name)
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(two.dataobj))
        predicted |= set(np.unique(np.asarray(one.dataobj)).tolist())
        assert one.header == two.header
    assert len(predicted) > 1


def test_what_a_bundle_holds(exported):
    metadata = json.loads((exported / "configs" / "metadata.json").read_text())
    assert set(metadata) >= REQUIRED
    formats = metadata["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == [30, 22]
    assert list(formats["outputs"]["pred"]["channel_def"].values()) == ["background", "core", "ring"]
    texts = {path: path.read_text() for path in exported.rglob("*") if path.suffix in {".json", ".md", ".py"}}
    told = {
        str(path): word for path, text in texts.items() for word in ("eleanor", str(exported.parent)) if word in text
    }
    assert told == {}
    assert {path.name for path in exported.iterdir()} == {"configs", "docs", "fewlabel_bundle", "models"}
    network = torch.load(exported / "models" / "model.pt", weights_only=True)
    assert {name.split(".")[1] for name in network} == {"0", "1"}


def test_the_sources_import_each_other_and_nothing_else_of_this_package():
    sources = bundle_sources()
    lines = [line.strip() for source in sources.values() for line in source.splitlines()]
    assert [line for line in lines if line.startswith(("from fewlabel", "import fewlabel"))] == []
    neighbours = {line.split()[1].lstrip(".") for line in lines if line.startswith("from .")}
    assert {f"{name}.py" for name in neighbours} <= set(sources)


@pytest.mark.parametrize("members", [1, 2])
@pytest.mark.parametrize(
    "config",
    [
        UNetConfig(width=4, depth=3, in_channels=2),
        UNetConfig(width=4, depth=2, norm="instance", slope=0.1),
        UNetConfig(width=8, depth=3, norm="group"),
        UNetConfig(ndim=3, width=4, depth=3),
        UNetConfig(ndim=3, width=4, depth=2, norm="instance", slope=0.01),
    ],
    ids=lambda config: f"{config.ndim}d-{config.norm}",
)
def test_the_networks_are_those_that_were_trained(config, members):
    networks = []
    for seed in range(members):
        torch.manual_seed(seed)
        network = UNet(config, 3)
        for name, tensor in network.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2.0)
        networks.append(folded(network.eval()))

    class Plan:
        channels = ("a",) * config.in_channels

    class Found:
        plan, window = Plan, (4, 16, 16)

    Found.networks = networks
    twin = shipped.segmenter(**bundle._architecture(Found)).eval()
    twin.load_state_dict(shipped.Segmenter(networks, config.ndim, config.stride).state_dict())
    images = torch.rand((2, config.in_channels, *(16,) * config.ndim))
    with torch.inference_mode():
        for ours, theirs in zip(networks, twin.members, strict=True):
            torch.testing.assert_close(theirs(images), ours(images), atol=1e-4, rtol=1e-4)


def test_scans_of_several_channels(tmp_path):
    with pytest.raises(ValueError, match="holds no"):
        scans_in(str(tmp_path))
    for name in ("b_0001.nii.gz", "a_0000.nii.gz", "b_0000.nii.gz", "a_0001.nii.gz", "notes.txt"):
        (tmp_path / name).touch()
    assert len(scans_in(str(tmp_path))) == 4
    found = scans_in(str(tmp_path), 2)
    assert [[path.rpartition("/")[2] for path in scan] for scan in found] == [
        ["a_0000.nii.gz", "a_0001.nii.gz"],
        ["b_0000.nii.gz", "b_0001.nii.gz"],
    ]
    (tmp_path / "a_0001.nii.gz").unlink()
    with pytest.raises(ValueError, match="a must have the channels 0000 to 0001"):
        scans_in(str(tmp_path), 2)


def test_where_a_bundle_may_lie(run, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="is not empty"):
        fewlabel.export(source=run, to="monai_bundle", out=tmp_path / "mine", overwrite=True)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    out = fewlabel.export(source=run, to="monai_bundle", out=tmp_path / "bundle")
    (out / "models" / "model.pt").write_bytes(b"")
    with pytest.raises(SettingsError, match="overwrite=true"):
        fewlabel.export(source=run, to="monai_bundle", out=out)
    fewlabel.export(source=run, to="monai_bundle", out=out, overwrite=True)
    assert (out / "models" / "model.pt").stat().st_size
    monkeypatch.setattr(bundle, "TOLERANCE", -1.0)
    with pytest.raises(DataError, match="The bundle is not the segmenter"):
        fewlabel.export(source=run, to="monai_bundle", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()
