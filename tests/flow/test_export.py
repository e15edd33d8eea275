"""An encoder in other libraries: the same maps there, and the guide's code as it stands."""

from __future__ import annotations

import json
import os
import pydoc
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import fewlabel
from fewlabel.cli import app
from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.errors import ArtifactError, SettingsError
from fewlabel.data.intensity_changes import standardise
from fewlabel.engine.weight_files import load_encoder, save_encoder
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from kit.scans import blob, noise, write_scan
from kit.stores import make_store

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "use-an-encoder-elsewhere.md"
DEEP = UNetConfig(width=8, depth=5)
NETWORKS = [
    DEEP,
    DEEP.model_copy(update={"norm": "instance", "slope": 0.01, "in_channels": 2}),
    DEEP.model_copy(update={"ndim": 3, "width": 4}),
]


def random_encoder(config):
    """Weights and running statistics that no other encoder has."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        encoder = UNetEncoder(config)
        for name, tensor in encoder.state_dict().items():
            if name.endswith(("running_var", "weight")) and tensor.dim() == 1:
                tensor.uniform_(0.5, 2.0)
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_()
    return encoder.eval()


def write_encoder(folder, config, prepared=None):
    folder.mkdir(parents=True)
    facts = {"method": "gcl", "steps": 7, "channels": ["image"], "spacing": [1.5, 1.5], "image_size": [32, 32]}
    save_encoder(folder, random_encoder(config), facts)
    parents = [] if prepared is None else [prepared]
    finish_artifact(folder, "encoder", ["encoder.json", "encoder.safetensors"], parents=parents)
    return folder


def images(config, dtype=torch.float64):
    size = (2, config.in_channels, *(32,) * config.ndim)
    return torch.randn(size, dtype=dtype, generator=torch.Generator().manual_seed(1))


def described(file):
    """The JSON beside a file of weights, and its constructor's arguments with classes for their names."""
    values = json.loads(file.with_suffix(".json").read_text())
    arguments = dict(values["architecture"]["arch_kwargs"])
    for key in values["architecture"]["_kw_requires_import"]:
        arguments[key] = arguments[key] and pydoc.locate(arguments[key])
    return values, arguments


def monai_maps(network, x):
    """What the five levels of a BasicUNet's encoder give."""
    maps = []
    for level in (network.conv_0, network.down_1, network.down_2, network.down_3, network.down_4):
        x = level(x)
        maps.append(x)
    return maps


@pytest.mark.parametrize("config", [*NETWORKS, DEEP.model_copy(update={"norm": "group"})], ids=lambda c: c.norm)
@pytest.mark.parametrize(("suffix", "dtype"), [(".safetensors", torch.float64), (".pt", torch.float32)])
def test_monai_gives_the_same_maps(tmp_path, config, suffix, dtype):
    file = fewlabel.export(source=write_encoder(tmp_path / "e", config), to="monai", out=tmp_path / f"w{suffix}")
    values, arguments = described(file)
    network = pydoc.locate(values["architecture"]["network_class_name"])(out_channels=3, **arguments)
    tensors = safetensors.torch.load_file(file) if suffix == ".safetensors" else torch.load(file, weights_only=True)
    left = network.load_state_dict(tensors, strict=False)
    assert left.unexpected_keys == []
    assert {name.split(".")[0].split("_")[0] for name in left.missing_keys} == {"upcat", "final"}
    x = images(config, dtype)
    with torch.inference_mode():
        ours = random_encoder(config).to(dtype)(x)
        theirs = monai_maps(network.eval().to(dtype), x)
    assert values["exact"]
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)


@pytest.fixture(scope="module")
def plain_conv():
    """nnU-Net's architectures, which need none of the libraries that nnU-Net itself does."""
    pytest.importorskip("dynamic_network_architectures")
    return pytest.importorskip("dynamic_network_architectures.building_blocks.plain_conv_encoder")


@pytest.mark.parametrize("config", [*NETWORKS, UNetConfig(width=4, depth=3, slope=0.1)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_nnunet_gives_the_same_maps(tmp_path, plain_conv, config, dtype):
    file = fewlabel.export(source=write_encoder(tmp_path / "e", config), to="nnunet", out=tmp_path / "w.pth")
    values, arguments = described(file)
    whole = pydoc.locate(values["architecture"]["network_class_name"])
    whole(values["input_channels"], num_classes=3, **arguments)
    arguments.pop("n_conv_per_stage_decoder")
    encoder = plain_conv.PlainConvEncoder(values["input_channels"], return_skips=True, pool=values["pool"], **arguments)
    tensors = torch.load(file, weights_only=True)["network_weights"]
    encoder.load_state_dict({name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}, strict=True)
    x = images(config, dtype)
    with torch.inference_mode():
        ours = random_encoder(config).to(dtype)(x)
        theirs = encoder.eval().to(dtype)(x)
    assert values["exact"]
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)


def test_nnunets_own_network_takes_the_tensors_and_gives_other_maps(tmp_path, plain_conv):
    config = UNetConfig(width=4, depth=3)
    folder = write_encoder(tmp_path / "e", config)
    file = fewlabel.export(source=folder, to="nnunet", pool="conv", out=tmp_path / "w.safetensors")
    values, arguments = described(file)
    network = pydoc.locate(values["architecture"]["network_class_name"])(1, num_classes=3, **arguments).eval()
    tensors = {name.removeprefix("encoder."): tensor for name, tensor in safetensors.torch.load_file(file).items()}
    network.encoder.load_state_dict(tensors, strict=True)
    with torch.inference_mode():
        ours, theirs = random_encoder(config)(images(config).float()), network.encoder(images(config).float())
    torch.testing.assert_close(ours[0], theirs[0])
    assert not torch.allclose(ours[1], theirs[1], atol=0.1)
    assert ours[1].shape == theirs[1].shape
    assert not values["exact"]
    assert "starting point only" in values["note"]


def test_what_the_json_says(tmp_path):
    prepared = make_store(tmp_path / "prepared", subjects=3, depth=2, size=(32, 32))
    folder = write_encoder(tmp_path / "run" / "encoder", DEEP, prepared)
    file = fewlabel.export(source=tmp_path / "run", to="nnunet", out=tmp_path / "exported" / "w.safetensors")
    values, _ = described(file)
    assert values["weights"] == "w.safetensors"
    assert values["input"]["percentiles_of_a_volume"] == {"low": 1.0, "high": 99.0}
    assert (values["input"]["sides_are_multiples_of"], values["input"]["spacing_mm"]) == (16, [1.5, 1.5])
    assert values["pretraining"]["method"] == "gcl"
    assert values["architecture"]["arch_kwargs"]["strides"] == [[1, 1], *[[2, 2]] * 4]
    assert values["architecture"]["arch_kwargs"]["features_per_stage"] == [8, 16, 32, 64, 128]
    assert set(safetensors.torch.load_file(file)) >= {"encoder.stages.4.1.convs.1.norm.running_var"}
    shutil.rmtree(prepared)
    again = fewlabel.export(source=folder, to="nnunet", out=tmp_path / "again.pt")
    assert json.loads(again.with_suffix(".json").read_text())["input"]["percentiles_of_a_volume"] is None


def test_nothing_is_written_where_it_must_not_be(tmp_path):
    folder = write_encoder(tmp_path / "e", DEEP)
    (tmp_path / "there.json").write_text("mine")
    (tmp_path / "folder.pt").mkdir()
    for name, words in {
        "e/encoder.safetensors": "is an artifact and takes no other files",
        "w.onnx": r"out: must end in \.safetensors, \.pth or \.pt",
        "there.pt": r"there\.json exists already",
        "folder.pt": r"out: must be a file, and .* is a folder",
    }.items():
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(SettingsError, match=words):
            fewlabel.export(source=folder, to="nnunet", out=tmp_path / name)
        assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.json").read_text() == "mine"
    fewlabel.export(source=folder, to="nnunet", out=tmp_path / "there.pt", overwrite=True)
    assert json.loads((tmp_path / "there.json").read_text())["format"] == "nnunet"


def test_what_cannot_be_built_there_writes_nothing(tmp_path):
    folder = write_encoder(tmp_path / "e", DEEP.model_copy(update={"norm": "group", "depth": 3}))
    for to, words in (("nnunet", "network.norm"), ("monai", "network.depth")):
        with pytest.raises(SettingsError, match=words):
            fewlabel.export(source=folder, to=to, out=tmp_path / "w.pth")
    with pytest.raises(ArtifactError, match="neither a finished encoder nor a run folder"):
        fewlabel.export(source=tmp_path, to="nnunet", out=tmp_path / "w.pth")
    with pytest.raises(SettingsError, match="to: this setting is required"):
        fewlabel.export(source=folder, out=tmp_path / "w.pth")
    assert list(tmp_path.iterdir()) == [folder]


def test_the_command(tmp_path):
    folder, out = write_encoder(tmp_path / "e", DEEP), tmp_path / "w.safetensors"
    result = CliRunner().invoke(app, ["export", str(folder), "--to", "monai", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(out)
    assert "The same maps" in result.stderr
    wrong = CliRunner().invoke(app, ["export", str(folder), "--to", "nnunett", "--out", str(out)])
    assert wrong.exit_code == 2
    assert "nnunet" in wrong.stderr


def blocks(language="python"):
    """The guide's code, by the first words that tell a block from the others."""
    found = re.findall(rf"```{language}\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    words = ("class StandardisedUNet", "class nnUNetTrainerFewlabel", "SliceInferer", "load_encoder_into", "foreign(")
    assert len(found) == len(words)
    return dict(zip(words, found, strict=True)) if all(w in b for w, b in zip(words, found, strict=True)) else {}


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """A folder with what the guide starts from."""
    prepared = make_store(tmp_path / "run" / "prepared", subjects=3, depth=2, size=(32, 32))
    write_encoder(tmp_path / "run" / "encoder", DEEP, prepared)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# MONAI warns of a decoder of its own that is not installed, wherever pydicom is.
@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader:UserWarning")
def test_the_guides_monai_example(workplace):
    fewlabel.export(source="run", to="monai", out="exported/encoder.safetensors")
    scans = []
    for number in range(2):
        image = noise((6, 40, 28), number) + 80 * blob((6, 40, 28))
        scans.append({
            "image": str(write_scan(workplace / f"{number}.nii.gz", image)),
            "label": str(write_scan(workplace / f"{number}_mask.nii.gz", blob((6, 40, 28)))),
        })  # fmt: skip
    names = {"SCANS": scans, "CLASSES": 2, "EPOCHS": 0}
    exec(compile(blocks()["SliceInferer"], str(GUIDE), "exec"), names)
    network, predict = names["network"], names["predict"]
    slices = images(DEEP, torch.float32)
    with torch.inference_mode():
        ours = random_encoder(DEEP)(standardise(slices))
        theirs = monai_maps(network, standardise(slices))
        torch.testing.assert_close(predict(slices), network(standardise(slices)))
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two)
    assert names["classes"].shape == (1, 32, 32, 6)
    # Rows of the file stay rows: 40 of them are cut to 32, 28 columns are padded to 32.
    first = noise((6, 40, 28), 0) + 80 * blob((6, 40, 28))
    low, high = np.percentile(first, (1, 99))
    wanted = np.clip((first[:, 4:36] - low) / (high - low), 0, 1).transpose(1, 2, 0)
    np.testing.assert_allclose(names["volume"].numpy()[0, :, 2:30], wanted, atol=1e-5)
    names |= {"EPOCHS": 3}
    exec(compile(blocks()["SliceInferer"], str(GUIDE), "exec"), names)
    assert np.isfinite(float(names["loss"].detach()))
    after = names["network"].down_4.convs.conv_1.conv.weight
    assert not torch.equal(after, network.down_4.convs.conv_1.conv.weight)


def test_the_guides_own_module_and_the_other_way(workplace, capsys):
    names = {"CLASSES": 4}
    exec(compile(blocks()["load_encoder_into"], str(GUIDE), "exec"), names)
    mine, _ = load_encoder(Path("run/encoder"))
    state = names["network"].encoder.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in mine.state_dict().items())
    wide = UNetConfig(width=16)
    write_encoder(workplace / "wide", wide)
    fewlabel.export(source="wide", to="monai", out="theirs.pth")
    names = {}
    exec(compile(blocks()["foreign("], str(GUIDE), "exec"), names)
    assert torch.equal(names["encoder"].blocks[4].conv2.weight, random_encoder(wide).blocks[4].conv2.weight)
    assert "60 of 60 tensors match" in capsys.readouterr().out


def test_the_guides_nnunet_example(workplace, monkeypatch, plain_conv):
    """With a stand-in for the trainer's base class: nnU-Net itself is not needed to build its network."""
    fewlabel.export(source="run/encoder", to="nnunet", out="exported/encoder.pth")
    (workplace / "fewlabel_unet.py").write_text(blocks()["class StandardisedUNet"])
    monkeypatch.syspath_prepend(str(workplace))
    stand_in = types.ModuleType("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    stand_in.nnUNetTrainer = object
    monkeypatch.setitem(sys.modules, stand_in.__name__, stand_in)
    names = {}
    exec(compile(blocks()["class nnUNetTrainerFewlabel"], str(GUIDE), "exec"), names)
    network = names["nnUNetTrainerFewlabel"].build_network_architecture(None, None, 1, 4, enable_deep_supervision=True)
    monkeypatch.delitem(sys.modules, "fewlabel_unet")
    slices = images(DEEP, torch.float32)
    with torch.inference_mode():
        maps = random_encoder(DEEP)(standardise(slices))
        logits = network.eval()(slices)
        torch.testing.assert_close(logits[0], network.decoder(maps)[0])
        for one, two in zip(maps, network.encoder(standardise(slices)), strict=True):
            torch.testing.assert_close(one, two)
    assert [tuple(level.shape[1:]) for level in logits] == [(4, side, side) for side in (32, 16, 8, 4)]
    # A checkpoint of the network goes back into it, by every name it has.
    network.load_state_dict(network.state_dict())
    assert os.environ.get("FEWLABEL_EXPORT") is None
