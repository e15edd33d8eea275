"""``check`` refuses the settings that ``prepare`` refuses, and all of them are told at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core import progress
from fewlabel.core.errors import SettingsError
from fewlabel.stages.prepare import PrepareSettings
from kit.scans import nnunet_folder

FIVE = ("size=[63,64]", "low=99", "high=1", "workers=-1", "spacing=[0,1]", "position_parts=0")


def fewlabel(*words: object) -> Result:
    listener = list(progress._listener)
    result = CliRunner(env={"COLUMNS": "500"}).invoke(app, [str(word) for word in words])
    progress._listener[:] = listener
    return result


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return nnunet_folder(tmp_path / "data", tuple("abcdef"))


def faults_of(result: Result) -> list[str]:
    return [line for line in result.stderr.splitlines() if line.startswith("  - ")]


@pytest.mark.parametrize("command", ["check", "prepare"])
def test_check_refuses_what_prepare_refuses(data: Path, tmp_path: Path, command: str) -> None:
    out = ["--out", tmp_path / "p"] if command == "prepare" else []
    result = fewlabel(command, data, *out, "size=[63,64]", "low=99", "high=1")
    assert result.exit_code == 2, result.stdout
    assert "No faults." not in result.stdout
    assert len(faults_of(result)) == 2
    assert "size: must be even numbers" in result.stderr
    assert "low: must be below high" in result.stderr


@pytest.mark.parametrize("command", ["check", "prepare", "train"])
def test_all_five_are_told_at_once(data: Path, tmp_path: Path, command: str) -> None:
    out = [] if command == "check" else ["--out", tmp_path / "p"]
    result = fewlabel(command, data, *out, *FIVE)
    assert result.exit_code == 2
    for word in ("size", "low", "workers", "spacing", "position_parts"):
        assert any(f"{word}: " in line for line in faults_of(result)), (word, result.stderr)
    assert len(faults_of(result)) == 5, result.stderr
    assert not (tmp_path / "p").exists()


def test_a_wrong_value_is_not_told_twice() -> None:
    with pytest.raises(SettingsError) as caught:
        PrepareSettings.parse({"data": "d", "out": "o", "low": "x", "high": 1.0, "size": [1, 2, 3]})
    assert [fault.where for fault in caught.value.faults] == ["low", "size"]


def test_what_is_missing_is_told_with_the_rest() -> None:
    with pytest.raises(SettingsError) as caught:
        PrepareSettings.parse({"data": "d", "size": [63, 64], "sizee": 3})
    assert sorted(fault.where for fault in caught.value.faults) == ["out", "size", "sizee"]


@pytest.mark.parametrize("command", ["check", "train"])
def test_a_train_call_names_unknown_and_wrong_settings(data: Path, tmp_path: Path, command: str) -> None:
    words = ("stepss=3", "lablled=2", "pretrain.batchh=3", "finetune.steps=x")
    out = [] if command == "check" else ["--out", tmp_path / "run"]
    result = fewlabel(command, data, *out, *words)
    assert result.exit_code == 2
    assert len(faults_of(result)) == 4
    for word in ("stepss", "lablled", "pretrain.batchh", "finetune.steps"):
        assert word in result.stderr


def test_check_takes_the_words_of_train_and_shows_what_they_make_of_prepare(data: Path) -> None:
    result = fewlabel("check", data, "prepare.size=[32,48]", "finetune.labelled=1", "budget=5m", "method=gcl")
    assert result.exit_code == 0, result.stderr
    assert "32x48 pixels" in result.stdout
