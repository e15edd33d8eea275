"""Fine-tuning that goes on from a segmenter: its weights, and patients whose labels they never met."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.stages import finetune
from fewlabel.stages.finetune.leave_one_out import LeftOut
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from kit.stores import make_store
from kit.tiny import finetune_settings

A, B, C = "patient001", "patient002", "patient003"
#: The network stays as it is, running statistics among them.
STILL = {"mode": "frozen", "optimiser": {"name": "sgd", "lr": 1e-12, "min_lr": 0.0}, "recalibrate": "never"}
NETWORK = {"width": 4, "depth": 3, "norm": "instance"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("data") / "prepared", subjects=8, size=(32, 32), depth=3)


@pytest.fixture(scope="module")
def first(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(store, tmp_path_factory.mktemp("first") / "segmenter", [A, B], expect="always")


def train(store: Path, out: Path, subjects: list[str], **over: Any) -> Path:
    usual = {"network": NETWORK, "subjects": subjects, "postprocess": False, "validation": "none"}
    return finetune.run(finetune_settings(store, out, **{**usual, **over}))


def facts_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "segmenter.json").read_text())


def test_what_left_a_patient_out_is_kept(first: Path) -> None:
    whole = load_file(first / "segmenter.safetensors")
    files = Artifact.open(first, "segmenter").manifest.files
    for subject in (A, B):
        name = f"left-out-{subject}/segmenter.safetensors"
        assert name in files
        weights = load_file(first / name)
        assert weights.keys() == whole.keys()
        assert not torch.equal(weights["classifier.weight"], whole["classifier.weight"])


def test_patients_are_scored_by_weights_that_never_met_them(store: Path, first: Path, tmp_path: Path) -> None:
    again = train(store, tmp_path / "again", [A, B, C], start=first, **STILL)
    continued, before = facts_of(again)["continued"], facts_of(first)["expected"]["subjects"]
    assert continued["left_out"]["before"] == {name: pytest.approx(before[name]["dice"]) for name in (A, B)}
    # Nothing was learnt, so all is as it was.
    assert continued["left_out"]["after"] == pytest.approx(continued["left_out"]["before"])
    assert continued["unseen"].keys() == {C}
    assert facts_of(again)["expected"]["again"]
    assert facts_of(again)["labelled_subjects"] == [A, B, C]
    assert {parent.kind for parent in Artifact.open(again).manifest.parents} == {"prepared", "segmenter"}
    old, new = load_file(first / "segmenter.safetensors"), load_file(again / "segmenter.safetensors")
    assert all(torch.allclose(old[key].float(), new[key].float(), atol=1e-6) for key in old)
    # The third patient has never been met by the first segmenter: that is what leaves the patient out from now on.
    kept = load_file(again / f"left-out-{C}" / "segmenter.safetensors")
    assert all(torch.equal(old[key], kept[key]) for key in old)


def test_patients_who_chose_the_length_are_scored_by_weights_of_that_length(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = {"validation": "leave_one_out", "steps": 6, "optimiser": {"name": "adam", "lr": 0.02}}
    with monkeypatch.context() as patch:
        choose_the_shortest(patch)
        first = train(store, tmp_path / "first", [A, B, C], **over)
    assert facts_of(first)["best_step"] == 2
    again = train(store, tmp_path / "again", [A, B, C], start=first, **STILL)
    continued, before = facts_of(again)["continued"], facts_of(first)["expected"]["subjects"]
    assert continued["left_out"]["before"] == {name: pytest.approx(before[name]["dice"]) for name in (A, B, C)}
    # They are those of a training that is not selected by anybody, and ends there.
    monkeypatch.setattr(SegmentationTrainer, "run", until(2))
    plain = train(store, tmp_path / "plain", [A, B, C], **{**over, "validation": "none", "expect": "always"})
    for name in (f"left-out-{subject}/segmenter.safetensors" for subject in (A, B, C)):
        assert (plain / name).read_bytes() == (first / name).read_bytes()


def choose_the_shortest(patch: pytest.MonkeyPatch) -> None:
    """Leaving out chooses the first validation, whatever the scores."""
    original = LeftOut.best_length

    def best_length(self: LeftOut) -> int:
        original(self)
        return min(self.dice)

    patch.setattr(LeftOut, "best_length", best_length)


def until(stop: int) -> Any:
    """In place of the ``run`` of trainers: they stop after so many steps."""
    original = SegmentationTrainer.run
    return lambda self, _=None: original(self, stop)


def test_the_next_round_leaves_the_same_patients_out(store: Path, first: Path, tmp_path: Path) -> None:
    second = train(store, tmp_path / "second", [A, B, C], start=first)
    third = train(store, tmp_path / "third", [A, B, C], start=second)
    assert facts_of(third)["continued"]["unseen"] == {}
    after = facts_of(second)["expected"]["subjects"]
    for name, value in facts_of(third)["continued"]["left_out"]["before"].items():
        assert value == pytest.approx(after[name]["dice"])
    changed = [load_file(folder / "segmenter.safetensors")["classifier.weight"] for folder in (first, second, third)]
    assert not torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[1], changed[2])


def test_validation_tells_before_and_after(store: Path, tmp_path: Path) -> None:
    held = {"validation": "held_out"}
    first = train(store, tmp_path / "first", [A, B], **held)
    again = train(store, tmp_path / "again", [A, B, C], start=first, **held)
    facts = facts_of(again)
    assert facts["expected"] is None
    told = facts["continued"]["validation"]
    assert told["before"] == pytest.approx(facts_of(first)["validation_dice"])
    assert told["after"] == pytest.approx(facts["validation_dice"])
    assert facts["validation_subjects"] == PreparedStore(store).split["parts"]["validation"]


def test_a_run_that_goes_on_is_resumed_bit_by_bit(store: Path, first: Path, tmp_path: Path) -> None:
    whole = train(store, tmp_path / "whole", [A, B, C], start=first)
    names = [f"left-out-{A}/scores.json", f"left-out-{A}/segmenter.safetensors", "segmenter.safetensors"]
    kept = {name: (whole / name).read_bytes() for name in names}
    again = train(store, tmp_path / "whole", [A, B, C], start=first, resume=True)
    assert {name: (again / name).read_bytes() for name in names} == kept
    with pytest.raises(SettingsError, match="start_hash"):
        train(store, tmp_path / "whole", [A, B, C], start=whole, resume=True)


def test_what_cannot_be_is_said(store: Path, first: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as error:
        train(store, tmp_path / "x", [A, B], start=first, control=True, encoder="encoder")
    assert "encoder: cannot be combined with start. Leave out encoder." in str(error.value)
    assert "control: cannot be combined with start." in str(error.value)
    with pytest.raises(SettingsError) as error:
        train(store, tmp_path / "x", [A, B], start=first, network={"width": 8}, members=2)
    assert f"network.width: is 8, but the start {first} has 4" in str(error.value)
    assert "members: " in str(error.value)
    other = make_store(tmp_path / "other", subjects=4, size=(48, 48), depth=3)
    with pytest.raises(SettingsError, match="was made for size="):
        train(other, tmp_path / "x", [A], start=first)
    plain = train(store, tmp_path / "plain", [A, B], expect="never")
    with pytest.raises(SettingsError, match="kept no network that left one out"):
        train(store, tmp_path / "x", [A, B], start=plain, expect="always")
    assert not (tmp_path / "x").exists()
    assert np.isfinite(facts_of(train(store, tmp_path / "y", [A, B], start=plain))["steps"])
