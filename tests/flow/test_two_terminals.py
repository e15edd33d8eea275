"""Two terminals, one folder: the second is told who is at work, and changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.errors import SettingsError
from fewlabel.engine.lock import LOCK
from fewlabel.engine.loop import Loop
from fewlabel.stages import finetune, pretrain
from kit.other_process import begun, ended, holding
from kit.stores import make_store
from kit.tiny import finetune_settings, pretrain_settings

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fcntl")

STAGES = {"pretrain": (pretrain, pretrain_settings), "finetune": (finetune, finetune_settings)}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("terminals") / "prepared", subjects=6, depth=5, size=(32, 32))


@pytest.fixture
def other(tmp_path: Path) -> Iterator[BaseProcess]:
    """Another process at work in ``tmp_path / "out"``."""
    with holding(tmp_path / "out") as process:
        yield process


def settings_of(stage: str, store: Path, out: Path, **over: object):
    extra = {"method": "simclr"} if stage == "pretrain" else {"labelled": 1, "validation": "none"}
    return STAGES[stage][1](store, out, checkpoint_seconds=0, **extra, **over)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class PowerCut(BaseException):
    """Stands for the machine going away."""


def cut(monkeypatch: pytest.MonkeyPatch, stage: str, store: Path, out: Path) -> None:
    original = Loop._log

    def log(self, step, *rest):
        original(self, step, *rest)
        if step == 3:
            raise PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_log", log)
        with pytest.raises(PowerCut):
            STAGES[stage][0].run(settings_of(stage, store, out))


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("resume", [False, True])
def test_the_second_terminal_is_refused(store, tmp_path, other, stage, *, resume):
    out = tmp_path / "out"
    before = content(tmp_path)
    with pytest.raises(SettingsError) as caught:
        STAGES[stage][0].run(settings_of(stage, store, out, seed=1, resume=resume))
    assert caught.value.exit_code == 2
    assert str(out) in str(caught.value)
    assert f"process {other.pid}" in str(caught.value)
    assert content(tmp_path) == before


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_whose_holder_was_killed_is_resumed(store, tmp_path, monkeypatch, request, stage):
    out = tmp_path / "out"
    cut(monkeypatch, stage, store, out)
    other = request.getfixturevalue("other")
    before = content(out)
    with pytest.raises(SettingsError, match=f"process {other.pid}"):
        STAGES[stage][0].run(settings_of(stage, store, out, resume=True))
    assert content(out) == before
    other.kill()
    other.join()
    assert (out / LOCK).is_file()
    STAGES[stage][0].run(settings_of(stage, store, out, resume=True))
    assert not (out / LOCK).exists()
    assert {path.name for path in out.iterdir()} == {*Artifact.open(out).manifest.files, MANIFEST}


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_that_begins_while_another_trains_is_refused(store, tmp_path, monkeypatch, stage):
    out = tmp_path / "out"
    original, told = Loop._log, []

    def log(self, step, *rest):
        original(self, step, *rest)
        if not told:
            told.append("")
            for resume in (False, True):
                with pytest.raises(SettingsError, match="is in use by") as caught:
                    STAGES[stage][0].run(settings_of(stage, store, out, seed=1, resume=resume))
                told.append(str(caught.value))

    monkeypatch.setattr(Loop, "_log", log)
    STAGES[stage][0].run(settings_of(stage, store, out))
    assert len(told) == 3
    assert Artifact.open(out).manifest.seed == 0
    rows = (out / "metrics.jsonl").read_text().splitlines()
    assert len(rows) == 6


def test_two_that_start_at_the_same_moment_do_not_both_run(store, tmp_path):
    words = ["pretrain", str(store), "method=simclr", "network.width=4", "network.depth=3", "steps=30", "batch=8"]
    words += ["device=cpu", "precision=32", "log_every=1"]
    started = [begun([*words, f"seed={seed}", "--out", str(tmp_path / "out")]) for seed in (0, 1)]
    ends = [ended(process) for process in started]
    assert sorted(ends) == [0, 2]
    seed = ends.index(0)
    assert Artifact.open(tmp_path / "out", "encoder").manifest.seed == seed
    assert len((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()) == 30
