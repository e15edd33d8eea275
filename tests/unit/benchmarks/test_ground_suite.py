"""The suite of the ground: which cells it plans, equal time for all arms, and how its table is told."""

from __future__ import annotations

import importlib
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fewlabel.core.config import resolve_plugin
from fewlabel.data.appearance import Appearance
from fewlabel.data.augment import AugmentConfig, finetuning_augmentation
from fewlabel.pipelines.stages import stage_settings

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


@pytest.fixture
def suites(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("acdc_ground", "as_it_was", "ground_arms", "ground_summary")
    return SimpleNamespace(**{name: importlib.import_module(f"suites.{name}") for name in names})


def test_every_cell_is_planned_once_and_the_test_parts_meet_two_arms(suites):
    cells = list(suites.acdc_ground.plan())
    assert len({cell.key for cell in cells}) == len(cells)
    assert {cell.arm for cell in cells} == set(suites.ground_arms.ARMS)
    tested = [cell for cell in cells if cell.split != "develop"]
    assert {cell.arm for cell in tested} == {suites.acdc_ground.DEFAULT, suites.acdc_ground.CONTROL}
    counts = Counter((cell.split, cell.labelled) for cell in tested if cell.arm == suites.acdc_ground.DEFAULT)
    assert counts == {
        ("chaitanya", 1): 5,
        ("chaitanya", 2): 5,
        ("chaitanya", 8): 3,
        ("ssl4mis", 1): 3,
        ("ssl4mis", 3): 3,
        ("ssl4mis", 7): 3,
    }


def test_the_test_parts_have_to_be_named(suites):
    ground = suites.acdc_ground
    chosen = [cell for cell in ground.plan() if ground.wanted(cell, [])]
    assert {cell.split for cell in chosen} == {"develop"}
    only = [cell for cell in ground.plan() if ground.wanted(cell, ["weak-to-strong"])]
    assert {(cell.arm, cell.split) for cell in only} == {("weak-to-strong", "develop")}
    tested = [cell for cell in ground.plan() if ground.wanted(cell, ["ssl4mis/weak-to-strong"])]
    assert {(cell.arm, cell.split) for cell in tested} == {("weak-to-strong", "ssl4mis")}


def test_all_trainings_cost_the_same_time(suites, tmp_path):
    arms = suites.ground_arms
    costs = tmp_path / "costs.json"
    rows = {"supervised": 1.0, "fixmatch": 2.5, "mean_teacher": 2.0, "bcp": 3.0}
    costs.write_text(json.dumps({"regimes": {name: {"step": step} for name, step in rows.items()}}))
    for name, training in arms.TRAININGS.items():
        regime = training.regime["name"]
        rest = resolve_plugin("fewlabel.regimes", {"name": regime}).model_dump().get("rest", 0.0)
        spent = arms.steps_of(training, 6000, costs) * (rest + (1 - rest) * rows[regime])
        members = training.settings.get("members", 1)
        assert spent * members == pytest.approx(6000, rel=0.05), name


def test_arms_differ_by_one_part_each(suites):
    full = finetuning_augmentation()

    def views(name):
        return AugmentConfig.parse(dict(suites.ground_arms.TRAININGS[name].augment), base=full)

    plain, geometry, intensity, ground = (views(name) for name in ("plain", "geometry", "intensity", "ground"))
    assert ground == full
    assert {key for key in AugmentConfig.model_fields if getattr(intensity, key) != getattr(full, key)} == {"anatomy"}
    # Their ranges are widened to how the scans lie, or not.
    assert geometry == plain
    assert suites.ground_arms.TRAININGS["plain"].settings == {"widen_augment": False}
    assert suites.ground_arms.TRAININGS["geometry"].settings == {}
    # What is off in the plain one draws nothing, whatever its limits are.
    assert Appearance.sample(plain, 4, torch.Generator()) is None
    assert plain.rotation == suites.as_it_was.PLAIN["rotation"] == 20


def test_settings_of_every_cell_are_settings(suites, tmp_path):
    ground = suites.acdc_ground
    for cell in ground.plan():
        settings = ground.settings_of(suites.ground_arms.ARMS[cell.arm], cell)
        recipe = settings.pop("recipe")
        made = stage_settings("finetune", {"data": tmp_path, "out": tmp_path / "out", **settings}, recipe)
        assert (made.labelled, made.recalibrate, made.control) == (cell.labelled, "never", False)
        assert (made.seed if cell.split == "ssl4mis" else made.draw) == cell.draw


def row(arm, split, labelled, draw, dice, seconds=100.0):
    return {
        "arm": arm,
        "split": split,
        "labelled": labelled,
        "draw": draw,
        "dice": dice,
        "seconds": seconds,
        "dice_by_class": {"RV": dice, "LV": dice + 0.1},
        "dice_by_phase": {"ED": dice + 0.05, "ES": dice - 0.05},
        "hd95_mm": 10.0,
        "lost": {"RV": 1, "LV": 0},
        "test_cases": 40,
    }


def test_one_line_an_arm(suites):
    table = [
        *(row("supervised", "develop", 1, draw, dice) for draw, dice in enumerate((0.5, 0.6, 0.7))),
        *(row("weak-to-strong", "develop", 1, draw, dice, 300.0) for draw, dice in enumerate((0.6, 0.6, 0.9))),
        row("upper-bound", "develop", 0, 0, 0.9),
    ]
    head, first, second, third = suites.ground_summary.summarise(table)
    assert head == "arm split M draws mean std gain low high seconds"
    assert first == "supervised develop 1 3 0.600 0.100 0.000 0.000 0.000 100"
    # Gains 0.1, 0, 0.2: mean 0.1, standard error 0.1/sqrt(3), t(2) = 4.303.
    assert second == "weak-to-strong develop 1 3 0.700 0.173 0.100 -0.148 0.348 300"
    assert third.startswith("upper-bound develop all 1 0.900 nan nan")
    assert suites.ground_summary.markdown(table)[3].endswith("| +0.100 (-0.148 to +0.348) | 300 |")
    assert suites.ground_summary.details(table)[3] == (
        "| `weak-to-strong` | develop | 1 | RV 0.700 / LV 0.800 | 0.750 / 0.650 | 10.0 | 3 of 240 |"
    )


def test_what_was_not_run_is_told(suites, tmp_path):
    path = tmp_path / "acdc-ground.jsonl"
    total = len(list(suites.acdc_ground.plan()))
    assert len(suites.acdc_ground.not_run(path)) == total
    path.write_text(json.dumps(row("supervised", "develop", 1, 0, 0.5)) + "\n")
    missing = suites.acdc_ground.not_run(path)
    assert len(missing) == total - 1
    assert "not run: supervised develop 1, 4 runs" in suites.ground_summary.unfinished(missing)
