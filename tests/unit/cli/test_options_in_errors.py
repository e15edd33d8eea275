"""Options that were given as settings, or left out: errors name the option."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fewlabel.cli import app


def refusal(*words: str) -> str:
    result = CliRunner(env={"COLUMNS": "500"}).invoke(app, list(words))
    assert result.exit_code == 2, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("train", "data"),
        ("check", "data"),
        ("prepare", "data", "--out", "out"),
        ("pretrain", "prepared", "--out", "out"),
        ("finetune", "prepared", "--out", "out"),
        ("evaluate", "prepared", "--out", "out", "--segmenter", "model"),
    ],
)
def test_a_recipe_is_no_setting(words: tuple[str, ...]) -> None:
    assert "recipe: is an option, not a setting. Give --recipe acdc." in refusal(*words, "recipe=acdc")


def test_a_recipe_in_place_of_the_data_is_no_setting_either() -> None:
    told = refusal("train", "recipe=acdc", "stesp=3")
    assert "recipe: is an option, not a setting. Give --recipe acdc." in told
    assert "you mean steps?" in told
    assert "Begin with fewlabel train DATA." in told
    assert "Add --out DIR." in told


def test_flags_and_options_of_the_program_are_no_settings() -> None:
    told = refusal("settings", "finetune", "json=true", "verbose=true")
    assert "json: is an option, not a setting. Give --json." in told
    assert "verbose: is an option, not a setting. Give --verbose before the command." in told


def test_options_that_are_missing_are_named_as_options() -> None:
    told = refusal("evaluate", "prepared")
    assert "Add --out DIR." in told
    assert "Add --segmenter DIR." in told
    assert "Add --to TARGET." in refusal("export", "encoder", "out=e.pth")


def test_the_place_of_a_merge_may_be_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(name: str, settings: Any) -> Path:
        asked.append(settings.record())
        return Path("made")

    monkeypatch.setattr("fewlabel.pipelines.stage_table.run_stage", run)
    assert CliRunner().invoke(app, ["merge", "a", "b", "out=c"]).exit_code == 0
    assert asked == [{"data": "a", "others": ["b"], "out": "c"}]


def test_the_demo_takes_no_data() -> None:
    told = refusal("demo", "data=scans", "patients=3")
    assert "data: is written by the demo itself. Leave it out." in told
    assert "patients: " in told
