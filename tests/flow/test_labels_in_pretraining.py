"""Labels in pre-training: those of the draw alone, declared in the encoder and held against fine-tuning's own draw."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import DataError, RunStoppedError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.engine.checkpoint import CHECKPOINT
from fewlabel.engine.loop import Loop
from fewlabel.engine.record import read_record
from fewlabel.stages import finetune, pretrain
from kit.stores import make_store, resealed
from kit.tiny import finetune_settings, pretrain_settings

#: Half of the steps for each stage; whose labels: one patient of four.
SSCL = {"name": "sscl", "global_share": 0.5, "per_class": 24, "slices": 4}
DRAW = {"method": SSCL, "labelled": 1, "draw": 1}
LABELLED = "patient002"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Patients 1 to 4 train, 5 validates, 6 tests; draw d of one is patient d + 1."""
    return make_store(tmp_path_factory.mktemp("labels") / "prepared", subjects=6, depth=5, size=(32, 32))


@pytest.fixture(scope="module")
def encoder(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder and decoder that learnt from one patient's labels."""
    out = tmp_path_factory.mktemp("sscl") / "encoder"
    over = {**DRAW, "method": {**SSCL, "global_share": 0.25}, "optimiser": {"name": "adamw", "lr": 3e-3}}
    return pretrain.run(pretrain_settings(store, out, **over, steps=80))


def facts_of(folder: Path) -> dict:
    return json.loads((folder / "encoder.json").read_text())


def rows_without_time(folder: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_record(folder / "metrics.jsonl")]


def same_files(one: Path, two: Path, names: tuple[str, ...]) -> bool:
    return all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_both_stages_learn(encoder: Path) -> None:
    rows = read_record(encoder / "metrics.jsonl")
    views, pixels = ([row[f"term/{name}"] for row in rows if f"term/{name}" in row] for name in ("views", "pixels"))
    assert (len(views), len(pixels)) == (20, 60)
    assert np.mean(views[-8:]) < np.mean(views[:4]) - 0.1
    assert np.mean(pixels[-8:]) < np.mean(pixels[:4]) - 0.2
    local = rows[20:]
    # Well below what equal embeddings would give.
    assert np.mean([row["loss"] - row["collapsed"] for row in local[-8:]]) < -0.2
    assert all(row["lower_bound"] <= row["loss"] for row in local)


def test_the_encoder_says_whose_labels_it_saw(encoder: Path) -> None:
    facts = facts_of(encoder)
    assert facts["labelled_subjects"] == [LABELLED]
    assert facts["decoder_blocks"] == 2
    assert "decoder.safetensors" in Artifact.open(encoder, "encoder").manifest.files


def poisoned(store: Path, folder: Path, subjects: list[str]) -> Path:
    """A copy of a store in which the masks of these subjects are noise."""
    shutil.copytree(store, folder)
    opened = PreparedStore(folder)
    labels = np.array(opened.labels)
    chosen = opened.slices_of(subjects)
    labels[chosen] = np.random.default_rng(0).integers(0, 4, labels[chosen].shape)
    np.save(folder / "labels.npy", labels)
    return resealed(folder)


@pytest.mark.parametrize("limit", [0.0, 2.0])
def test_no_label_outside_of_the_draw_changes_a_bit(store: Path, tmp_path: Path, limit: float) -> None:
    over = {**DRAW, "sampler": {"resident_limit": limit}}
    pretrain.run(pretrain_settings(store, tmp_path / "clean", **over))
    others = [f"patient00{number}" for number in (1, 3, 4, 5, 6)]
    files = ("encoder.safetensors", "decoder.safetensors", "embeddings.safetensors")
    other = poisoned(store, tmp_path / "others", others)
    pretrain.run(pretrain_settings(other, tmp_path / "same", **over))
    assert same_files(tmp_path / "clean", tmp_path / "same", files)
    assert rows_without_time(tmp_path / "clean") == rows_without_time(tmp_path / "same")
    # The poison is strong enough to be noticed.
    own = poisoned(store, tmp_path / "own", [LABELLED])
    pretrain.run(pretrain_settings(own, tmp_path / "changed", **over))
    assert not any(same_files(tmp_path / "clean", tmp_path / "changed", (name,)) for name in files)


def test_methods_without_labels_read_none(store: Path, tmp_path: Path) -> None:
    for number, data in enumerate((store, poisoned(store, tmp_path / "store", [LABELLED]))):
        pretrain.run(pretrain_settings(data, tmp_path / str(number), method="simclr", labelled=1, draw=1, steps=2))
    assert same_files(tmp_path / "0", tmp_path / "1", ("encoder.safetensors",))
    assert facts_of(tmp_path / "0")["labelled_subjects"] == []
    assert facts_of(tmp_path / "0")["decoder_blocks"] == 0
    assert not (tmp_path / "0" / "decoder.safetensors").exists()


def test_labels_of_held_out_patients_cannot_be_asked_for(store: Path, tmp_path: Path) -> None:
    for subject in ("patient005", "patient006"):
        with pytest.raises(DataError, match=subject):
            pretrain.run(pretrain_settings(store, tmp_path / subject, method=SSCL, subjects=[subject]))
        assert not (tmp_path / subject / "encoder.safetensors").exists()


def test_fine_tuning_on_a_draw_without_those_labels_is_refused(store: Path, encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"(?s)Labels would leak.*also learnt from {LABELLED}") as caught:
        finetune.run(finetune_settings(store, tmp_path / "out", encoder=encoder, labelled=1, draw=0))
    assert caught.value.exit_code == 2
    assert caught.value.faults[0].remedy
    assert "patient001" in caught.value.faults[0].remedy
    assert not (tmp_path / "out").exists()
    for allowed in ({"labelled": 1, "draw": 1}, {"subjects": ["patient003", LABELLED]}, {}):
        finetune.begin(finetune_settings(store, tmp_path / "out", encoder=encoder, **allowed))


def test_labels_are_remembered_through_a_second_pre_training(store: Path, encoder: Path, tmp_path: Path) -> None:
    plain = {"method": "simclr", "encoder": encoder, "steps": 2}
    second = pretrain.run(pretrain_settings(store, tmp_path / "second", **plain))
    assert facts_of(second)["labelled_subjects"] == [LABELLED]
    with pytest.raises(SettingsError, match="Labels would leak"):
        finetune.run(finetune_settings(store, tmp_path / "s", encoder=second, labelled=1, draw=0, steps=1))
    other = {"method": SSCL, "labelled": 1, "draw": 0, "encoder": encoder, "steps": 2}
    with pytest.raises(SettingsError, match=f"also learnt from {LABELLED}"):
        pretrain.run(pretrain_settings(store, tmp_path / "third", **other))


def test_a_network_from_scratch_sees_no_labels_of_an_encoder(store: Path, encoder: Path, tmp_path: Path) -> None:
    settings = {"encoder": encoder, "labelled": 1, "draw": 0, "mode": "scratch", "steps": 1}
    finetune.run(finetune_settings(store, tmp_path / "s", **settings))


def test_who_lent_labels_cannot_be_left_out(store: Path, encoder: Path, tmp_path: Path) -> None:
    settings = {"encoder": encoder, "subjects": ["patient001", LABELLED], "validation": "leave_one_out", "steps": 1}
    with pytest.raises(SettingsError, match="labels of a left-out patient must not be known"):
        finetune.run(finetune_settings(store, tmp_path / "s", **settings))


def test_fine_tuning_takes_the_decoder_with_all_and_not_with_the_encoder_alone(
    store: Path, encoder: Path, tmp_path: Path
) -> None:
    left, states = load_file(encoder / "decoder.safetensors"), {}
    for name, over in (("all", {}), ("encoder", {"transfer": "encoder"}), ("scratch", {"mode": "scratch"})):
        settings = finetune_settings(store, tmp_path / name, encoder=encoder, labelled=1, draw=1, **over)
        states[name] = finetune.begin(settings).model.network.state_dict()
    decoder = {name: {k: v for k, v in state.items() if k.startswith("decoder.")} for name, state in states.items()}
    assert decoder["all"].keys() == {f"decoder.{key}" for key in left}
    assert all(torch.equal(decoder["all"][f"decoder.{key}"], tensor) for key, tensor in left.items())
    assert all(torch.equal(decoder["encoder"][key], tensor) for key, tensor in decoder["scratch"].items())
    for key, tensor in left.items():
        # All of it was trained: also the running statistics.
        assert not torch.equal(decoder["scratch"][f"decoder.{key}"], tensor), key
    weights = load_file(encoder / "encoder.safetensors")
    for name in ("all", "encoder"):
        assert all(torch.equal(states[name][f"encoder.{key}"], tensor) for key, tensor in weights.items())
    assert torch.equal(states["all"]["classifier.weight"], states["scratch"]["classifier.weight"])


def test_pre_training_starts_from_another_encoder(store: Path, encoder: Path, tmp_path: Path) -> None:
    weights = load_file(encoder / "encoder.safetensors")
    over = {**DRAW, "encoder": encoder, "method": {**SSCL, "global_share": 0.0}, "steps": 1}
    settings = pretrain_settings(store, tmp_path / "out", **over)
    begun = pretrain.PretrainingTrainer.begin(settings).model.encoder.state_dict()
    assert all(torch.equal(begun[key], tensor) for key, tensor in weights.items())
    fresh = pretrain.PretrainingTrainer.begin(settings.model_copy(update={"encoder": None})).model
    assert not torch.equal(fresh.encoder.state_dict()["blocks.0.conv1.weight"], weights["blocks.0.conv1.weight"])
    pretrain.run(settings)
    parents = Artifact.open(tmp_path / "out", "encoder").manifest.parents
    assert [parent.kind for parent in parents] == ["prepared", "encoder"]
    assert parents[1].content_hash == Artifact.open(encoder).content_hash
    # Local from the first step on, one step away from where it began.
    assert "term/pixels" in read_record(tmp_path / "out" / "metrics.jsonl")[0]
    moved = load_file(tmp_path / "out" / "encoder.safetensors")["blocks.0.conv1.weight"]
    assert 0 < float((moved - weights["blocks.0.conv1.weight"]).abs().max()) < 2e-3


class PowerCut(BaseException):
    """Stands for the machine going away: nothing may catch it."""


@pytest.fixture
def die_after(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function: from now on a run dies, or is stopped by Ctrl-C, once it has done a step."""
    original = Loop._log

    def arm(step: int | None, *, gently: bool = False) -> None:
        def log(self, number, *rest):
            original(self, number, *rest)
            if number == step and gently:
                signal.raise_signal(signal.SIGINT)
            elif number == step:
                raise PowerCut

        monkeypatch.setattr(Loop, "_log", log)

    return arm


METHODS = {
    "sscl": SSCL,
    "moco": {"name": "moco", "queue": 20},
    "glcl": {"name": "glcl", "regions": 5, "window": 1, "neighbours": 2},
    "jigsaw": {"name": "jigsaw", "negatives": 4, "gap": 0.0},
}


# In the first stage, at the border of the stages and in the second one.
@pytest.mark.parametrize(("name", "steps"), [("sscl", (1, 2, 4)), ("moco", (3,)), ("glcl", (2, 4)), ("jigsaw", (3,))])
def test_a_run_that_dies_and_is_resumed_ends_with_the_same_bits(store, tmp_path, die_after, name, steps) -> None:
    over = {**DRAW, "method": METHODS[name], "checkpoint_seconds": 0}
    pretrain.run(pretrain_settings(store, tmp_path / "whole", **over))
    files = ["encoder.safetensors", "embeddings.safetensors"]
    files += ["decoder.safetensors"] if name in {"sscl", "glcl"} else []
    for step in steps:
        out = tmp_path / f"cut{step}"
        die_after(step)
        with pytest.raises(PowerCut):
            pretrain.run(pretrain_settings(store, out, **over))
        assert (out / CHECKPOINT).is_file()
        assert not (out / "manifest.json").exists()
        die_after(None)
        pretrain.run(pretrain_settings(store, out, **over, resume=True))
        assert same_files(out, tmp_path / "whole", tuple(files))
        assert rows_without_time(out) == rows_without_time(tmp_path / "whole")


def test_a_run_that_is_stopped_goes_on_with_the_same_bits(store, tmp_path, die_after) -> None:
    die_after(3, gently=True)
    with pytest.raises(RunStoppedError, match="after step 4 of 6"):
        pretrain.run(pretrain_settings(store, tmp_path / "out", **DRAW))
    die_after(None)
    for out in ("out", "whole"):
        pretrain.run(pretrain_settings(store, tmp_path / out, **DRAW, resume=True))
    assert same_files(tmp_path / "out", tmp_path / "whole", ("encoder.safetensors", "decoder.safetensors"))


def test_a_run_is_not_resumed_with_other_labels(store, tmp_path, die_after) -> None:
    die_after(3)
    with pytest.raises(PowerCut):
        pretrain.run(pretrain_settings(store, tmp_path / "out", **DRAW, checkpoint_seconds=0))
    die_after(None)
    with pytest.raises(SettingsError, match="draw"):
        pretrain.run(pretrain_settings(store, tmp_path / "out", **{**DRAW, "draw": 2}, resume=True))
