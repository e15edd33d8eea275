"""The commands that show what there is."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core import progress
from fewlabel.pipelines.recipes import recipe_names
from fewlabel.pipelines.stages import STAGES


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(progress, "_listener", list(progress._listener))


def call(*words: str) -> Result:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("methods", ("gcl", "simclr")),
        ("regimes", ("supervised",)),
        ("readers", ("acdc", "nnunet", "table")),
        ("recipes", recipe_names()),
        ("version", ("fewlabel", "torch", "python")),
    ],
)
def test_lists_name_everything(command: str, names: tuple[str, ...]) -> None:
    lines = call(command).stdout.splitlines()
    first = [line.split()[0] for line in lines[1:] if line and not line.startswith(" ")]
    assert first == list(names) if command != "version" else set(names) <= set(first)
    assert all(len(line.rstrip()) <= 80 for line in lines)


@pytest.mark.parametrize("stage", [*STAGES, "train", "demo"])
def test_settings_are_listed_in_80_columns(stage: str) -> None:
    text = call("settings", stage).stdout
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert "out" in text


def test_settings_of_a_choice() -> None:
    keys = {row["key"] for row in json.loads(call("settings", "pretrain", "method=simclr", "--json").stdout)}
    assert "method.temperature" in keys
    assert "method.beta" not in keys
    assert "| `method.beta` |" in call("settings", "pretrain", "method=gcl", "--markdown").stdout


def test_every_setting_has_a_meaning() -> None:
    for stage in [*STAGES, "train", "demo"]:
        rows = json.loads(call("settings", stage, "--json").stdout)
        assert [row["key"] for row in rows if not row["doc"]] == []


@pytest.mark.parametrize(
    "words", [("settings", "pretrane"), ("settings", "pretrain", "method=glc"), ("settings", "x", "y")]
)
def test_unknown_names_are_2(words: tuple[str, ...]) -> None:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 2
    assert "did you mean" in " ".join(result.stderr.split()) or words == ("settings", "x", "y")
