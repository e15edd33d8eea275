"""Committed tables are what their commands make, with the recipe that is shipped."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from fewlabel.pipelines.stages import stage_settings

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def suites(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("acdc_lite", "regime_costs")
    return SimpleNamespace(**{name: importlib.import_module(f"suites.{name}") for name in names})


def test_the_command_of_the_readme_makes_the_rows_that_are_committed(suites):
    rows = [json.loads(line) for line in (BENCHMARKS / "results" / "acdc-lite.jsonl").read_text().splitlines()]
    lite = suites.acdc_lite
    made = {
        (arm, labelled, draw)
        for arm in lite.ARMS
        for labelled in lite.BUDGETS
        for draw in range(lite.DRAWS.get(arm, lite.FEWER))
    }
    assert sorted((row["arm"], row["labelled"], row["draw"]) for row in rows) == sorted(made)


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


def test_the_cost_of_a_regime_is_over_the_supervised_step(suites, tmp_path, capsys):
    suites.regime_costs.run(tmp_path, ["mean_teacher"], rounds=1)
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
