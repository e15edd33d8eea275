"""A run that dies at any moment and is resumed ends with the bits of one that was never interrupted."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
import torch

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import RunStoppedError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.engine.checkpoint import CHECKPOINT
from fewlabel.engine.loop import Loop
from fewlabel.engine.record import read_record
from fewlabel.engine.tensor_file import read_tensors_of_run, write_tensors
from fewlabel.objectives.class_share_monitor import ClassShares
from fewlabel.regimes import weak_to_strong as _weak_to_strong
from fewlabel.stages import finetune, pretrain
from kit.command_line import fewlabel
from kit.other_process import begun
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("resume") / "prepared", subjects=6, depth=5, size=(32, 32))


def _without_time(folder: Path) -> list[dict]:
    return [{k: v for k, v in row.items() if k != "seconds"} for row in read_record(folder / "metrics.jsonl")]


class PowerCut(BaseException):
    """Stands for the machine going away: nothing may catch it."""


def _die_after(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    original = Loop._log

    def log(self, step, *rest):
        original(self, step, *rest)
        if step == steps:
            raise PowerCut

    monkeypatch.setattr(Loop, "_log", log)


@pytest.mark.parametrize("method", ["gcl", "simclr"])
def test_pretraining_resumes_bit_identically(store, tmp_path, monkeypatch, method):
    pretrain.run(pretrain_settings(store, tmp_path / "whole", method=method))
    with monkeypatch.context() as patch:
        _die_after(patch, 3)
        with pytest.raises(PowerCut):
            pretrain.run(pretrain_settings(store, tmp_path / "cut", method=method, checkpoint_seconds=0))
    assert (tmp_path / "cut" / CHECKPOINT).is_file()
    assert not (tmp_path / "cut" / "manifest.json").exists()
    pretrain.run(pretrain_settings(store, tmp_path / "cut", method=method, checkpoint_seconds=0, resume=True))
    for name in ("encoder.safetensors", "embeddings.safetensors", "details.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert _without_time(tmp_path / "cut") == _without_time(tmp_path / "whole")
    assert not (tmp_path / "cut" / CHECKPOINT).exists()


def test_targets_of_the_mitigator_are_part_of_the_checkpoint(store, tmp_path, monkeypatch):
    pretrain.run(pretrain_settings(store, tmp_path / "whole"))
    with monkeypatch.context() as patch:
        _die_after(patch, 3)
        with pytest.raises(PowerCut):
            pretrain.run(pretrain_settings(store, tmp_path / "cut", checkpoint_seconds=0))
    path = tmp_path / "cut" / CHECKPOINT
    tensors, header = read_tensors_of_run(path, "")
    extra = [key for key in tensors if key.startswith("extra/")]
    assert extra
    assert any(tensors[key].abs().sum() > 0 for key in extra)
    write_tensors(path, {k: (v * 0 if k in extra else v) for k, v in tensors.items()}, header)
    pretrain.run(pretrain_settings(store, tmp_path / "cut", checkpoint_seconds=0, resume=True))
    assert (tmp_path / "cut/encoder.safetensors").read_bytes() != (tmp_path / "whole/encoder.safetensors").read_bytes()


def test_finetuning_resumes_bit_identically_with_best_weights(store, tmp_path, monkeypatch):
    extra = {"validation": "held_out", "checkpoint_seconds": 0}
    finetune.run(finetune_settings(store, tmp_path / "whole", **extra))
    with monkeypatch.context() as patch:
        _die_after(patch, 3)
        with pytest.raises(PowerCut):
            finetune.run(finetune_settings(store, tmp_path / "cut", **extra))
    finetune.run(finetune_settings(store, tmp_path / "cut", **extra, resume=True))
    for name in ("segmenter.safetensors", "segmenter.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert _without_time(tmp_path / "cut") == _without_time(tmp_path / "whole")


def test_a_weak_to_strong_run_resumes_before_and_behind_a_return(store, tmp_path, monkeypatch):
    # A guard that bites within twelve steps: a class whose share changes at all is out, and one such step is enough.
    monkeypatch.setattr(_weak_to_strong, "PATIENCE", 1)
    monkeypatch.setattr(_weak_to_strong, "ClassShares", lambda count, _: ClassShares(count, 1.0001, settle=1))
    monkeypatch.setattr(ClassShares, "absent", torch.zeros(4, dtype=torch.bool))
    regime = {"name": "fixmatch", "threshold": 0.3, "rest": 0.45}
    extra = {"regime": regime, "steps": 12, "log_every": 1, "checkpoint_seconds": 0}
    finetune.run(finetune_settings(store, tmp_path / "whole", **extra))
    returns = {row["step"]: row["returns"] for row in _without_time(tmp_path / "whole") if "returns" in row}
    first = min(step for step, count in returns.items() if count == 1)
    for cut in (4, first):
        out = tmp_path / f"cut{cut}"
        with monkeypatch.context() as patch:
            _die_after(patch, cut)
            with pytest.raises(PowerCut):
                finetune.run(finetune_settings(store, out, **extra))
        finetune.run(finetune_settings(store, out, **extra, resume=True))
        for name in ("segmenter.safetensors", "segmenter.json"):
            assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
        assert _without_time(out) == _without_time(tmp_path / "whole")
    (found,) = read_json(tmp_path / "whole/segmenter.json")["outcomes"]
    assert found["returns"] == len(found["taken_back"]) >= 1
    assert found["taken_back"][0]["step"] == first - 1


def test_the_end_of_a_run_tells_what_the_guard_did(store, tmp_path, monkeypatch):
    # Nothing is labelled as class 2: the second phase is given up at its first step.
    monkeypatch.setattr(_weak_to_strong, "ClassShares", lambda count, _: ClassShares(count, 3.0, settle=1))
    monkeypatch.setattr(ClassShares, "absent", torch.tensor([False, False, True, False]))
    extra = {"regime": {"name": "fixmatch", "rest": 0.5}, "validation": "none", "members": 2, "control": True}
    settings = finetune_settings(store, tmp_path / "run", **extra, steps=4)
    finetune.run(settings)
    name = PreparedStore(store).label_names[2]
    sentence = (
        f"The second phase was given up at step 2: no pixel of the unlabelled scans was labelled as {name}; the "
        "network is a supervised one."
    )
    outcomes = read_json(tmp_path / "run/segmenter.json")["outcomes"]
    assert [outcome["sentence"] for outcome in outcomes] == [sentence] * 2
    assert "outcomes" not in read_json(tmp_path / "run-control/segmenter.json")
    # Who continues a finished run is told as well.
    said: list[str] = []
    monkeypatch.setattr(finetune, "say", said.append)
    finetune.run(settings.model_copy(update={"resume": True}))
    assert [line for line in said if "given up" in line] == [f"Network {n} of 2: {sentence}" for n in (1, 2)]


def test_kill_minus_nine_loses_only_steps_since_the_checkpoint(store, tmp_path):
    words = ["pretrain", str(store), "method=gcl", "network.width=4", "network.depth=3", "optimiser.name=adamw"]
    words += ["optimiser.lr=0.001", "steps=40", "batch=8", "device=cpu", "precision=32", "log_every=1"]
    words += ["checkpoint_seconds=0"]
    out = tmp_path / "killed"
    process = begun([*words, "--out", str(out)])
    try:
        deadline = time.monotonic() + 120
        while len(read_record(out / "metrics.jsonl")) < 8:
            assert process.exitcode is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (out / "manifest.json").exists()
    fewlabel(*words, "--out", out, "--resume")
    whole = tmp_path / "whole"
    fewlabel(*words, "--out", whole)
    assert (out / "encoder.safetensors").read_bytes() == (whole / "encoder.safetensors").read_bytes()


def test_interrupt_saves_and_exits_130(store, tmp_path, monkeypatch):
    original = Loop._log

    def log(self, step, *rest):
        original(self, step, *rest)
        if step == 2:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_log", log)
        with pytest.raises(RunStoppedError, match="after step 3 of 6") as caught:
            pretrain.run(pretrain_settings(store, tmp_path / "out"))
    assert caught.value.exit_code == 130
    pretrain.run(pretrain_settings(store, tmp_path / "out", resume=True))
    pretrain.run(pretrain_settings(store, tmp_path / "whole"))
    one, two = ((tmp_path / name / "encoder.safetensors").read_bytes() for name in ("out", "whole"))
    assert one == two


def test_a_run_is_never_overwritten(store, tmp_path):
    out = tmp_path / "out"
    pretrain.run(pretrain_settings(store, out, method="simclr"))
    before = (out / "encoder.safetensors").read_bytes()
    with pytest.raises(SettingsError, match="finished encoder"):
        pretrain.run(pretrain_settings(store, out, method="simclr"))
    with pytest.raises(SettingsError, match="steps"):
        pretrain.run(pretrain_settings(store, out, method="simclr", steps=7, resume=True))
    pretrain.run(pretrain_settings(store, out, method="simclr", resume=True))
    assert (out / "encoder.safetensors").read_bytes() == before
    other = tmp_path / "notes"
    other.mkdir()
    (other / "precious.txt").write_text("keep me")
    with pytest.raises(SettingsError, match="notes is not empty"):
        pretrain.run(pretrain_settings(store, other, method="simclr"))
    assert [path.name for path in other.iterdir()] == ["precious.txt"]


def test_resuming_with_other_settings_names_them(store, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _die_after(patch, 3)
        with pytest.raises(PowerCut):
            pretrain.run(pretrain_settings(store, tmp_path / "cut", checkpoint_seconds=0))
    with pytest.raises(SettingsError, match="batch"):
        pretrain.run(pretrain_settings(store, tmp_path / "cut", resume=True, batch=16))
    assert json.loads(json.dumps(read_record(tmp_path / "cut" / "metrics.jsonl")))
