"""Threads: what rounds a sum is set and recorded, so that machines with other cores agree to the bit."""

import hashlib

import pytest
import torch

from fewlabel.core.artifact import files
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import train
from fewlabel.stages import evaluate, finetune, prepare, pretrain
from fewlabel.stages.evaluate import EvaluateSettings
from kit.segmenters import prepared_discs, raw_folder
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings, run_predict


@pytest.fixture
def machine():
    """A machine with so many cores, as far as PyTorch goes by them."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "prepared", subjects=5, depth=4, size=(32, 32))


def weights(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*.safetensors")}


def test_two_machines_train_the_same_bits(machine, store, tmp_path):
    made = {}
    for cores in (1, 3):
        out = tmp_path / str(cores)
        machine(cores)
        pretrain.run(pretrain_settings(store, out / "encoder", steps=3, threads=2))
        machine(cores)
        finetune.run(finetune_settings(store, out / "segmenter", encoder=out / "encoder", steps=3, threads=2))
        made[cores] = {**weights(out / "encoder"), **weights(out / "segmenter")}
        for name in ("encoder", "segmenter"):
            assert Artifact.open(out / name).manifest.machine["threads"] == 2
    assert made[1] == made[3]
    assert {"encoder.safetensors", "segmenter.safetensors"} <= made[1].keys()


def test_scores_and_masks_have_their_threads(machine, tmp_path):
    prepared = prepared_discs(tmp_path)
    out = finetune.run(finetune_settings(prepared, tmp_path / "segmenter", steps=1))
    machine(3)
    values = {"data": prepared, "segmenter": out, "out": tmp_path / "scores", "device": "cpu", "threads": 2}
    evaluate.run(EvaluateSettings.parse(values))
    assert Artifact.open(tmp_path / "scores").manifest.machine["threads"] == 2
    # Other threads change no score that is recorded, so that the scores are kept.
    evaluate.run(EvaluateSettings.parse({**values, "threads": 1}))
    machine(3)
    run_predict(out, tmp_path / "raw" / "imagesTr" / "s1_0000.nii.gz", tmp_path / "masks", threads=1)
    assert Artifact.open(tmp_path / "masks").manifest.machine["threads"] == 1


def test_without_the_setting_nothing_is_set(machine, store, tmp_path):
    machine(3)
    pretrain.run(pretrain_settings(store, tmp_path / "encoder", steps=1))
    assert torch.get_num_threads() == 3
    assert Artifact.open(tmp_path / "encoder").manifest.machine["threads"] == 3


def test_a_run_goes_on_with_other_threads(machine, store, tmp_path):
    pretrain.run(pretrain_settings(store, tmp_path / "encoder", steps=1, threads=1))
    pretrain.run(pretrain_settings(store, tmp_path / "encoder", steps=1, threads=2, resume=True))


def test_each_file_is_hashed_once_by_a_process(tmp_path, monkeypatch):
    hashed = []
    original = files.file_hash
    monkeypatch.setattr(files, "file_hash", lambda path: hashed.append(path.name) or original(path))
    raw_folder(tmp_path / "raw", [f"s{number}" for number in range(1, 7)])
    small = {"prepare": {"size": [32, 32]}, "finetune": {"steps": 1, "batch": 2, "network": {"width": 4, "depth": 2}}}
    train.run(train.train_settings({"data": tmp_path / "raw", "out": tmp_path / "run", **small, "device": "cpu"}))
    for name in ("images.npy", "labels.npy"):
        assert hashed.count(name) == 1, name
    # Once for each of model and control, as it is written.
    assert hashed.count("segmenter.safetensors") == 2
    PreparedStore(tmp_path / "run" / "prepared").images  # noqa: B018
    assert hashed.count("images.npy") == 1


def test_a_hash_is_that_of_the_file_as_it_is(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert files.hash_once(path) == hashlib.sha256(b"one").hexdigest()
    moved = path.rename(tmp_path / "b")
    assert files.hash_once(moved) == hashlib.sha256(b"one").hexdigest()
    moved.write_bytes(b"another")
    assert files.hash_once(moved) == hashlib.sha256(b"another").hexdigest()
    assert files.hash_now(moved) == hashlib.sha256(b"another").hexdigest()


def test_preparing_hashes_its_arrays_once(tmp_path, monkeypatch):
    hashed = []
    original = files.file_hash
    monkeypatch.setattr(files, "file_hash", lambda path: hashed.append(path.name) or original(path))
    prepared = prepared_discs(tmp_path)
    assert (hashed.count("images.npy"), hashed.count("labels.npy")) == (1, 1)
    again = {"data": tmp_path / "raw", "out": prepared, "reader": "nnunet", "workers": 1, "size": [32, 32]}
    prepare.run(prepare.PrepareSettings.parse({**again, "spacing": [2.0, 1.5], "split": str(tmp_path / "split.json")}))
    assert hashed.count("images.npy") == 1
