"""Statistics of batch normalisation after fine-tuning: whose images they are of, and what they change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import SettingsError
from fewlabel.data.evenly_spread_slices import Spread, spread_slices
from fewlabel.data.store import PreparedStore
from fewlabel.engine.recalibrate import recalibrate
from fewlabel.engine.record import read_record
from fewlabel.engine.weight_files import load_segmenter, save_encoder
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from fewlabel.stages import finetune
from fewlabel.stages.finetune import trainer
from kit.stores import make_store
from kit.tiny import NETWORK, finetune_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("statistics") / "prepared", subjects=8, depth=6, size=(16, 16))


def run(store: Path, out: Path, **over: Any) -> Path:
    return finetune.run(
        finetune_settings(
            store, out, **{"labelled": 1, "validation": "none", "steps": 4, "recalibrate": "auto", **over}
        )
    )


def parts(store: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = read_json(store / "split.json")["parts"]
    return found


def is_statistic(name: str) -> bool:
    return "running_" in name or name.endswith("num_batches_tracked")


def test_a_supervised_run_has_those_of_unlabelled_training_slices_and_its_own_weights(store, tmp_path):
    with_, without = run(store, tmp_path / "auto"), run(store, tmp_path / "never", recalibrate="never")
    found, plain = (load_file(out / "segmenter.safetensors") for out in (with_, without))
    for name, tensor in plain.items():
        assert torch.equal(found[name], tensor) != is_statistic(name), name
    # What the run did, done by hand to the network that it leaves alone.
    network, facts = load_segmenter(without)
    data, trains = PreparedStore(store), parts(store)["train"]
    slices = spread_slices(data, data.slices_of(trains), 128, 0)
    recalibrate(network, Spread(data, slices, None, 0).batches(16), share=0.5)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)
    assert facts["recalibrated"] is None
    assert facts["image_subjects"] == facts["labelled_subjects"]
    known = read_json(with_ / "segmenter.json")
    assert known["recalibrated"] == {"slices": len(slices), "subjects": len(trains), "share": 0.5}
    whole = load_file(run(store, tmp_path / "whole", recalibrate_share=1.0) / "segmenter.safetensors")
    name = "decoder.blocks.1.norm2.running_mean"
    torch.testing.assert_close(found[name], (whole[name] + plain[name]) / 2, rtol=1e-4, atol=1e-6)
    assert known["image_subjects"] == sorted(trains)
    assert not set(known["image_subjects"]) & {*parts(store)["test"], *parts(store)["validation"]}
    losses = [[row["loss"] for row in read_record(out / "metrics.jsonl")] for out in (with_, without)]
    assert losses[0] == losses[1]


def test_a_regime_that_saw_unlabelled_slices_keeps_its_own_unless_asked(store, tmp_path):
    auto, always = (
        run(store, tmp_path / asked, regime="mean_teacher", recalibrate=asked) for asked in ("auto", "always")
    )
    assert read_json(auto / "segmenter.json")["recalibrated"] is None
    assert read_json(always / "segmenter.json")["recalibrated"]["subjects"] == len(parts(store)["train"])
    first, second = (load_file(out / "segmenter.safetensors") for out in (auto, always))
    assert {name for name in first if not torch.equal(first[name], second[name])} == set(filter(is_statistic, first))


def test_some_hundred_slices_are_enough(store, tmp_path, monkeypatch):
    monkeypatch.setattr("fewlabel.stages._batch_norm_statistics.SLICES", 10)
    facts = read_json(run(store, tmp_path / "few") / "segmenter.json")
    assert facts["recalibrated"] == {"slices": 10, "subjects": len(parts(store)["train"]), "share": 0.5}


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Whose images were looked at in every call."""
    seen = []
    original = trainer.take_statistics

    def watched(network, images, share, *, frozen):
        seen.append(set(images.subjects))
        original(network, images, share, frozen=frozen)

    monkeypatch.setattr(trainer, "take_statistics", watched)
    return seen


def test_validation_scores_what_would_be_kept_and_never_looks_at_its_own_patients(store, tmp_path, looked_at):
    over = {"subjects": ["patient001", "patient002"], "labelled": None, "validate_every": 2, "steps": 6}
    # From equal shares, so that so few steps predict more than background.
    over["class_prior"] = False
    held = run(store, tmp_path / "held", **over, validation="held_out", recalibrate_share=1.0)
    assert len(looked_at) == 4
    assert all(subjects == set(parts(store)["train"]) for subjects in looked_at)
    plain = run(store, tmp_path / "plain", **over, validation="held_out", recalibrate="never")
    curves = [
        [row["validation_dice"] for row in read_record(out / "metrics.jsonl") if "validation_dice" in row]
        for out in (held, plain)
    ]
    assert curves[0] != curves[1]
    losses = [[row["loss"] for row in read_record(out / "metrics.jsonl") if "loss" in row] for out in (held, plain)]
    assert losses[0] == losses[1]
    looked_at.clear()
    run(store, tmp_path / "left", **over, validation="leave_one_out")
    trains = set(parts(store)["train"])
    left = [trains - subjects for subjects in looked_at]
    assert left[:4] == [{"patient001"}] * 4
    assert left[4:8] == [{"patient002"}] * 4
    assert left[8:]
    assert not set().union(*left[8:])


def test_a_frozen_encoder_keeps_its_statistics(store, tmp_path):
    torch.manual_seed(0)
    encoder = UNetEncoder(UNetConfig(**NETWORK))
    with torch.no_grad():
        for buffer in encoder.buffers():
            buffer.add_(1)
    (tmp_path / "encoder").mkdir()
    save_encoder(tmp_path / "encoder", encoder, {})
    finish_artifact(tmp_path / "encoder", "encoder", ["encoder.safetensors", "encoder.json"])
    frozen, plain = (
        load_segmenter(run(store, tmp_path / name, encoder=tmp_path / "encoder", mode="frozen", recalibrate=name))[0]
        for name in ("auto", "never")
    )
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(frozen.encoder.state_dict()[name], tensor), name
    first = "decoder.blocks.0.norm1.running_mean"
    assert not torch.equal(frozen.state_dict()[first], plain.state_dict()[first])


def test_volumes_have_those_of_patches(store, tmp_path, looked_at):
    over = {"patch": [4, 8, 8], "batch": 2, "steps": 2, "network": {**NETWORK, "depth": 2}}
    out = run(store, tmp_path / "out", **over)
    facts = read_json(out / "segmenter.json")
    assert facts["recalibrated"] == {"patches": 32, "subjects": len(parts(store)["train"]), "share": 0.5}
    plain = load_file(run(store, tmp_path / "plain", **over, recalibrate="never") / "segmenter.safetensors")
    found = load_file(out / "segmenter.safetensors")
    assert {name for name in plain if not torch.equal(plain[name], found[name])} == set(filter(is_statistic, plain))
    assert len(looked_at) == 1


def test_without_batch_normalisation_there_is_nothing_to_take(store, tmp_path):
    network = {**NETWORK, "norm": "instance"}
    facts = read_json(run(store, tmp_path / "auto", network=network) / "segmenter.json")
    assert facts["recalibrated"] is None
    assert facts["image_subjects"] == facts["labelled_subjects"]
    with pytest.raises(SettingsError, match=r"network\.norm: must be batch for recalibrate=always, not instance"):
        run(store, tmp_path / "always", network=network, recalibrate="always")
    assert not (tmp_path / "always").exists()
