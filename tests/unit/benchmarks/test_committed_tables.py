"""Committed tables are what their commands make, with the recipe that is shipped."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import fewlabel
from fewlabel.core.plugin_discovery import plugin_names
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.pipelines.stage_table import stage_settings

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def suites(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("acdc_lite", "acdc_methods", "acdc_semi", "la_lite", "regime_costs")
    return SimpleNamespace(**{name: importlib.import_module(f"suites.{name}") for name in names})


def test_the_command_of_the_documents_makes_the_rows_that_are_committed(suites):
    rows = [json.loads(line) for line in (BENCHMARKS / "results" / "acdc-lite.jsonl").read_text().splitlines()]
    lite = suites.acdc_lite
    made = {
        (arm, labelled, draw)
        for arm in lite.ARMS
        for labelled in lite.BUDGETS
        for draw in range(lite.DRAWS.get(arm, lite.FEWER))
    }
    assert sorted((row["arm"], row["labelled"], row["draw"]) for row in rows) == sorted(made)


@pytest.fixture
def asked(monkeypatch):
    """What fine-tunings were asked for, by stages that only leave a record."""
    made = []

    def finetune(**settings):
        keys = ("recipe", "labelled", "draw", "seed", "regime", "encoder", "recalibrate", "postprocess")
        made.append({key: settings.get(key) for key in keys})
        settings["out"].mkdir(parents=True, exist_ok=True)
        figures = [
            {"step": step, "seconds": 0.5, "variance/sg": step, "variance/ns": 4.0, "term/dice": 1 / step}
            for step in (1, 2, 6)
        ]
        (settings["out"] / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in figures))
        return settings["out"]

    def evaluate(**settings):
        settings["out"].mkdir(parents=True, exist_ok=True)
        model = {"mean": {"dice": {"mean": 0.5}, "missed": 0, "invented": 0}, "classes": {}}
        (settings["out"] / "summary.json").write_text(json.dumps({"arms": {"model": model}, "cases": 40}))

    monkeypatch.setattr(fewlabel, "prepare", lambda **settings: settings["out"])
    monkeypatch.setattr(fewlabel, "finetune", finetune)
    monkeypatch.setattr(fewlabel, "evaluate", evaluate)
    return made


def test_the_semi_supervised_table_asks_for_each_row_once_and_goes_on(suites, asked, tmp_path):
    for _ in range(2):
        suites.acdc_semi.run(tmp_path / "acdc", tmp_path / "work", tmp_path, ["scratch", "arco-sag"])
    assert len(asked) == 2 * 2 * 2 * 3
    drawn = [call for call in asked if call["seed"] is None]
    assert sorted({(call["labelled"], call["draw"]) for call in drawn}) == [(m, d) for m in (1, 2) for d in range(3)]
    seeded = [call for call in asked if call["seed"] is not None]
    assert sorted({(call["labelled"], call["draw"], call["seed"]) for call in seeded}) == [
        (m, 0, seed) for m in (1, 3) for seed in range(3)
    ]
    rows = [json.loads(line) for line in (tmp_path / "acdc-semi-ssl4mis.jsonl").read_text().splitlines()]
    assert len({(row["arm"], row["labelled"], row["draw"]) for row in rows}) == len(rows) == 12
    assert all(row["variance"] == {"ns": 4.0, "sg": 2} for row in rows)
    assert {row["regime"].get("sampling") for row in rows} == {None, "sag"}


def test_the_left_atrium_is_run_by_its_own_recipe_and_shows_its_learning(suites, asked, tmp_path):
    suites.la_lite.run(tmp_path / "la", tmp_path / "work", tmp_path, [])
    assert [(call["recipe"], call["labelled"]) for call in asked] == [("la-lite", 2)] * len(suites.la_lite.ARMS)
    rows = [json.loads(line) for line in (tmp_path / "la-lite.jsonl").read_text().splitlines()]
    assert [row["regime"]["name"] for row in rows] == [call["regime"]["name"] for call in asked]
    assert {(row["dice"], row["dice_loss_first"], row["dice_loss_last"]) for row in rows} == {(0.5, 1.0, 0.1667)}


@pytest.mark.parametrize(("suite", "table"), [("acdc_semi", "acdc-semi-chaitanya"), ("la_lite", "la-lite")])
def test_arms_are_all_regimes_there_are_and_those_of_the_committed_rows(suites, suite, table):
    rows = [json.loads(line) for line in (BENCHMARKS / "results" / f"{table}.jsonl").read_text().splitlines()]
    module = getattr(suites, suite)
    asked = {arm: found if suite == "la_lite" else found[0] for arm, found in module.ARMS.items()}
    assert next(iter(asked)) == "scratch"
    assert {settings["name"] for settings in asked.values()} == set(plugin_names("fewlabel.regimes"))
    assert all(asked[row["arm"]] == row["regime"] for row in rows)


def test_a_regime_whose_defaults_have_another_name_is_no_arm_twice(suites):
    arms = suites.acdc_semi.ARMS
    assert resolve_plugin("fewlabel.regimes", arms["arco-sg"][0]) == resolve_plugin("fewlabel.regimes", "arco")
    assert "arco" not in arms
    assert "supervised" not in arms
    assert arms["urpc"] == ({"name": "urpc"}, False)


def test_committed_rows_are_of_networks_as_training_left_them(suites, asked, tmp_path, monkeypatch):
    """They were made before there was anything to do after training, which is the default now."""
    monkeypatch.setattr(fewlabel, "pretrain", lambda **settings: settings["out"])
    suites.acdc_semi.run(tmp_path / "acdc", tmp_path / "work", tmp_path, ["scratch"])
    suites.la_lite.run(tmp_path / "la", tmp_path / "work", tmp_path, ["scratch"])
    suites.acdc_lite.run(tmp_path / "acdc", tmp_path / "lite", tmp_path, ["scratch"])
    suites.acdc_methods.run(tmp_path / "acdc", tmp_path / "methods", tmp_path / "other", ["scratch"])
    assert len(asked) == 12 + 1 + 10 + 6
    assert {(call["recalibrate"], call["postprocess"]) for call in asked} == {("never", False)}


def test_the_recipe_of_the_committed_tables_is_the_one_that_is_shipped(tmp_path):
    pretrain = stage_settings("pretrain", {"data": tmp_path, "out": tmp_path / "e"}, "acdc-lite")
    finetune = stage_settings("finetune", {"data": tmp_path, "out": tmp_path / "s"}, "acdc-lite")
    augment = pretrain.augment
    assert (pretrain.steps, pretrain.batch, pretrain.network.width) == (500, 32, 16)
    assert (pretrain.method.pool, pretrain.method.pixel_weight) == (4, 0.1)
    assert (augment.flip_horizontal, augment.flip_vertical, augment.contrast_low, augment.contrast_high) == (
        0,
        0,
        0.8,
        1.2,
    )
    assert (pretrain.optimiser.name, pretrain.optimiser.lr) == ("adamw", 1e-3)
    assert (finetune.steps, finetune.batch, finetune.optimiser.lr) == (300, 10, 2e-3)


def table_files():
    return sorted(path.name for path in (BENCHMARKS / "results").glob("*.jsonl"))


@pytest.mark.parametrize("table", table_files())
def test_rows_of_one_table_are_of_one_recipe(table):
    rows = [json.loads(line) for line in (BENCHMARKS / "results" / table).read_text().splitlines()]
    assert len({row["recipe"] for row in rows if "recipe" in row}) <= 1


def test_rows_name_what_the_recipe_says(suites, asked, tmp_path):
    suites.acdc_semi.run(tmp_path / "acdc", tmp_path / "work", tmp_path, ["scratch"])
    suites.la_lite.run(tmp_path / "la", tmp_path / "work", tmp_path, ["scratch"])
    tables = [(tmp_path / name).read_text().splitlines() for name in ("acdc-semi-chaitanya.jsonl", "la-lite.jsonl")]
    found = [{json.loads(line)["recipe"] for line in lines} for lines in tables]
    common = importlib.import_module("common")
    assert found == [{common.recipe_hash("acdc-lite")}, {common.recipe_hash("la-lite")}]
    assert found[0] != found[1]


def test_rows_are_made_with_the_augmentation_as_set(suites, monkeypatch, tmp_path):
    class Asked(Exception):
        """Stops a suite at its first fine-tuning."""

    def finetune(**settings):
        raise Asked(settings.get("widen_augment"))

    monkeypatch.setattr(fewlabel, "prepare", lambda **settings: settings["out"])
    monkeypatch.setattr(fewlabel, "finetune", finetune)
    for suite in (suites.acdc_lite, suites.acdc_semi, suites.la_lite):
        with pytest.raises(Asked, match="False"):
            suite.run(tmp_path / "data", tmp_path / "work", tmp_path / "results", ["scratch"])


def test_the_cost_of_a_regime_is_over_the_supervised_step(suites, tmp_path, capsys):
    package = tmp_path / "costs.json"
    suites.regime_costs.run(tmp_path, ["mean_teacher"], rounds=1, package=package)
    assert not package.exists()
    written = json.loads((tmp_path / "regime-costs.json").read_text())
    assert list(written["regimes"]) == ["supervised", "mean_teacher"]
    assert written["regimes"]["supervised"]["step"] == 1
    assert written["regimes"]["supervised"]["extra_bytes"] == 0
    assert written["regimes"]["mean_teacher"]["step"] > 1
    # The teacher is a second network.
    weights = sum(
        tensor.numel() * tensor.element_size()
        for tensor in suites.regime_costs.build("supervised").network.state_dict().values()
    )
    assert written["regimes"]["mean_teacher"]["extra_bytes"] == weights
    assert "mean_teacher" in capsys.readouterr().out


def test_costs_of_all_regimes_go_into_the_package(suites, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(suites.regime_costs, "plugin_names", lambda family: ["arco", "mixup", "supervised"])
    package = tmp_path / "package" / "costs.json"
    suites.regime_costs.run(tmp_path, [], rounds=1, package=package)
    written, carried = json.loads((tmp_path / "regime-costs.json").read_text()), json.loads(package.read_text())
    # The first stage of a regime that has two is a row of the results, but no regime.
    assert set(written["regimes"]) == {"arco", "arco, stage 1", "mixup", "supervised"}
    assert set(carried["rows"]) == {"arco", "mixup", "supervised"}
    assert carried["rows"]["supervised"] == {"step": 1.0, "extra_bytes": 0}
    assert (carried["reference"], carried["recipe"]) == ("supervised", "acdc-lite")
    assert "arco, stage 1" in capsys.readouterr().out
