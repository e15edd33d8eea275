"""Committed tables are what their commands make, with the recipe that is shipped."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewlabel.pipelines.stage_table import stage_settings

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def suites(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return SimpleNamespace(regime_costs=importlib.import_module("suites.regime_costs"))


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
