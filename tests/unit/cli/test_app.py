"""The application: exit codes, messages, help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core import progress
from fewlabel.core.errors import (
    ArtifactError,
    DataError,
    DivergedError,
    Fault,
    MemoryLimitError,
    RunStoppedError,
    SettingsError,
)
from fewlabel.pipelines import stage_table
from kit.pipeline import failing_command

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns, and nobody listening once the test is over."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.setattr(progress, "_listener", list(progress._listener))


def call(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SettingsError("no"), 2),
        (DataError("no"), 3),
        (ArtifactError("no"), 3),
        (DivergedError("no"), 4),
        (MemoryLimitError("no"), 5),
        (RunStoppedError("no"), 130),
    ],
)
def test_errors_of_ours_have_their_own_code_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    result = failing_command(monkeypatch, error)
    assert result.exit_code == code
    assert result.stderr == "no\n"
    assert result.stdout == ""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_is_5_with_advice(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    result = failing_command(monkeypatch, error)
    assert result.exit_code == 5
    assert "Out of memory" in result.stderr
    assert "Lower batch" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing_command(monkeypatch, KeyboardInterrupt())
    assert result.exit_code == 130
    assert result.stderr == "Interrupted.\n"


def test_a_full_disk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing_command(monkeypatch, OSError(28, "No space left on device"))
    assert result.exit_code == 6
    assert "The disk is full" in result.stderr
    assert "Free some space" in result.stderr
    assert "Traceback" not in result.stderr


def test_what_nobody_foresaw_shows_its_traceback_and_asks_for_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    result = failing_command(monkeypatch, RuntimeError("odd"))
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "RuntimeError: odd" in result.stderr
    assert "please report" in " ".join(result.stderr.split())


def test_all_faults_are_told_and_folded_at_words(monkeypatch: pytest.MonkeyPatch) -> None:
    faults = [Fault("is wrong " * 12 + "x" * 30, f"case {number}", "Mend it") for number in range(3)]
    result = failing_command(monkeypatch, DataError("Three things:", faults))
    lines = result.stderr.splitlines()
    assert lines[0] == "Three things:"
    assert sum(line.startswith("  - case") for line in lines) == 3
    assert all(len(line) <= 80 for line in lines)
    assert all(line.startswith("    ") for line in lines[1:] if not line.startswith("  - "))
    assert result.stderr.count("Mend it") == 3


def test_later_processes_say_who_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    assert failing_command(monkeypatch, DataError("no")).stderr == "[process 1] no\n"


def test_only_the_first_process_shows_progress_and_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str, settings: Any) -> Path:
        progress.say("working")
        return Path("made")

    monkeypatch.setattr(stage_table, "run_stage", run)
    first = call("report", "run")
    assert (first.exit_code, first.stdout, first.stderr) == (0, "made\n", "working\n")
    monkeypatch.setattr(progress, "_listener", [progress._Silence()])
    monkeypatch.setenv("RANK", "1")
    second = call("report", "run")
    assert (second.exit_code, second.stdout, second.stderr) == (0, "", "")


@pytest.mark.parametrize("words", [("nonsense",), ("pretrain",), ("pretrain", "p", "--no-such-option")])
def test_wrong_usage_is_2(words: tuple[str, ...]) -> None:
    assert call(*words).exit_code == 2


def test_wrong_settings_are_2_with_the_near_match() -> None:
    result = call("pretrain", "p", "--out", "e", "step=3", "seed=x", "nonsense")
    assert result.exit_code == 2
    assert "nonsense" in result.stderr
    result = call("pretrain", "p", "--out", "e", "step=3", "seed=x", "method=simclr", "method.dimm=3")
    text = " ".join(result.stderr.split())
    assert result.exit_code == 2
    for part in ("Did you mean steps?", "seed: must be a whole number", "Did you mean dim?"):
        assert part in text


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_fits_into_80_columns_and_explains_every_word(command: str | None) -> None:
    result = call(*([command] if command else []), "--help")
    assert result.exit_code == 0
    assert all(len(line.rstrip()) <= 80 for line in result.stdout.splitlines())
    if command:
        parameters = typer.main.get_command(app).commands[command].params  # type: ignore[attr-defined]
        assert all(getattr(parameter, "help", "") for parameter in parameters)


def test_no_words_show_the_help() -> None:
    assert "Stage by stage" in call().output


def test_the_folder_may_be_given_as_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(name: str, settings: Any) -> Path:
        seen.update(settings.record())
        return Path("made")

    monkeypatch.setattr(stage_table, "run_stage", run)
    assert call("pretrain", "data=p", "out=e", "steps=7", "method=simclr", "--device", "cpu").exit_code == 0
    assert (seen["data"], seen["out"], seen["steps"], seen["device"]) == ("p", "e", 7, "cpu")
    assert seen["method"]["name"] == "simclr"


def test_options_win_over_words_and_words_over_the_recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def run(name: str, settings: Any) -> Path:
        seen.update(settings.record())
        return Path("made")

    monkeypatch.setattr(stage_table, "run_stage", run)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "seed: 5\nregime: supervised\n"
        "pretrain:\n  steps: 9\n  batch: 4\n  device: cpu\n  method: {name: gcl, dim: 16}\n"
    )
    words = ("steps=8", "out=no", "method.temperature=0.3", "--out", "e", "--recipe", str(recipe), "--resume")
    assert call("pretrain", "p", *words).exit_code == 0
    assert (seen["seed"], seen["steps"], seen["batch"], seen["out"], seen["resume"]) == (5, 8, 4, "e", True)
    assert (seen["method"]["dim"], seen["method"]["temperature"], seen["method"]["name"]) == (16, 0.3, "gcl")
