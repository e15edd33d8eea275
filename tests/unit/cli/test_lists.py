"""The commands that show what there is."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core import progress
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.pipelines import methods_and_regimes
from fewlabel.pipelines.recipes import recipe_names
from fewlabel.pipelines.stage_table import STAGES


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
        ("methods", plugin_names("fewlabel.methods")),
        ("regimes", plugin_names("fewlabel.regimes")),
        ("readers", plugin_names("fewlabel.readers")),
        ("recipes", recipe_names()),
        ("version", ("fewlabel", "torch", "python")),
    ],
)
def test_lists_name_everything(command: str, names: tuple[str, ...]) -> None:
    lines = call(command).stdout.split("\n\n", maxsplit=1)[0].splitlines()
    first = [line.split()[0] for line in lines[1:] if line and not line.startswith(" ")]
    assert first == list(names) if command != "version" else set(names) <= set(first)
    assert all(len(line.rstrip()) <= 80 for line in lines)


COSTS = {
    "recipe": "acdc-lite",
    "reference": "simclr",
    "date": "2026-01-02",
    "processor": "A processor",
    "cores": 2,
    "cuda": "",
    "rows": {"simclr": {"step": 1.0, "extra_bytes": 99_000}, "gcl": {"step": 2.345, "extra_bytes": 1_260_000}},
}


def test_every_method_says_what_it_is_and_needs() -> None:
    rows = {row["name"]: row for row in methods_and_regimes.plugin_rows(methods_and_regimes.METHODS, {})}
    assert list(rows) == plugin_names(methods_and_regimes.METHODS)
    assert all(row["paper"] and row["summary"] and not row["summary"].endswith(".") for row in rows.values())
    needs = [rows[name]["needs"] for name in ("gcl", "glcl", "sscl", "simclr")]
    assert needs == ["any of patient, position, phase, quarter", "position", "labels", ""]
    assert {row["step"] + row["memory"] for row in rows.values()} == {""}


def test_methods_without_costs_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods_and_regimes, "packaged_costs", lambda family: {})
    table, note = call("methods").stdout.split("\n\n")
    assert table.count("measured") == 2 * len(plugin_names("fewlabel.methods"))
    assert "--suite method-costs" in " ".join(note.split())
    words = " ".join(table.split())
    assert "nothing" in words
    assert "arXiv 2309.08888" in words


def test_methods_with_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods_and_regimes, "packaged_costs", lambda family: COSTS)
    text = call("methods").stdout
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    table, note = text.split("\n\n")
    lines = {line.split()[0]: line for line in table.splitlines() if not line.startswith(" ")}
    assert "1.3 MB" in lines["gcl"]
    assert "2.35 x" in lines["gcl"] or "2.34 x" in lines["gcl"]
    assert "0.1 MB" in lines["simclr"]
    assert "1.00 x" in lines["simclr"]
    assert table.count("measured") == 2 * (len(plugin_names("fewlabel.methods")) - 2)
    words = " ".join(note.split())
    assert "over that of simclr" in words
    assert "Recipe acdc-lite, A processor, 2 cores, 2026-01-02." in words
    assert "GPU, 2026" in methods_and_regimes.cost_note(methods_and_regimes.METHODS, {**COSTS, "cuda": "GPU"})


def test_regimes_say_what_they_are_need_and_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {**COSTS, "reference": "supervised", "rows": {"cps": {"step": 3.7, "extra_bytes": 7_700_000}}}
    monkeypatch.setattr(methods_and_regimes, "packaged_costs", lambda family: costs)
    rows = {row["name"]: row for row in methods_and_regimes.plugin_rows(methods_and_regimes.REGIMES)}
    assert all(row["paper"] and row["summary"] and not row["summary"].endswith(".") for row in rows.values())
    assert list(rows) == plugin_names(methods_and_regimes.REGIMES)
    for name, row in rows.items():
        assert row["needs"] == ("unlabelled" if load_plugin(methods_and_regimes.REGIMES, name).uses_unlabelled else "")
    assert not rows["supervised"]["needs"]
    assert (rows["cps"]["step"], rows["cps"]["memory"], rows["arco"]["step"]) == ("3.70 x", "7.7 MB", "")
    text = call("regimes").stdout
    assert all(len(line.rstrip()) <= 80 for line in text.splitlines())
    assert "over that of supervised. Memory: parameters and buffers beside the network." in " ".join(text.split())


@pytest.mark.parametrize("family", [methods_and_regimes.METHODS, methods_and_regimes.REGIMES])
def test_packaged_costs_name_what_there_is(family: str) -> None:
    costs = methods_and_regimes.packaged_costs(family)
    assert set(costs["rows"]) == set(plugin_names(family))
    assert costs["rows"][costs["reference"]]["step"] == 1
    assert methods_and_regimes.cost_note(family, costs)


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
    assert "did you mean" in " ".join(result.stderr.lower().split()) or words == ("settings", "x", "y")
