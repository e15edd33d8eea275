"""The suite of the ground: which cells it plans, equal time for all arms, and how its table is told."""

from __future__ import annotations

import importlib
import json
import runpy
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fewlabel.core.settings.base import resolve_plugin
from fewlabel.data.augment_settings import AugmentConfig, finetuning_augmentation
from fewlabel.data.scanner_appearance import Appearance
from fewlabel.pipelines.stage_table import stage_settings

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"


SUITES = ("acdc-ground", "hippocampus-ground", "la-ground")


@pytest.fixture
def suites(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = (
        "acdc_ground",
        "as_it_was",
        "ground",
        "ground_arms",
        "ground_row",
        "ground_run",
        "ground_summary",
        "grounds",
        "hippocampus_ground",
        "la_ground",
    )
    return SimpleNamespace(**{name: importlib.import_module(f"suites.{name}") for name in names})


@pytest.fixture
def acdc(suites):
    return suites.acdc_ground.GROUND


def test_every_cell_is_planned_once_and_the_test_parts_meet_two_arms(suites, acdc):
    assert tuple(suites.grounds.GROUNDS) == SUITES
    assert {cell.arm for cell in acdc.cells} == set(suites.ground_arms.ARMS)
    for ground in suites.grounds.GROUNDS.values():
        assert len({cell.key for cell in ground.cells}) == len(ground.cells)
        tested = [cell for cell in ground.cells if cell.split != ground.choices]
        two = {suites.ground.DEFAULT, suites.ground.CONTROL} if ground is not acdc else set(suites.acdc_ground.TESTED)
        assert {cell.arm for cell in tested} == two
    counts = Counter(
        (cell.split, cell.labelled) for cell in acdc.cells if cell.split != "develop" and cell.arm == "half-the-time"
    )
    assert counts == {
        ("chaitanya", 1): 5,
        ("chaitanya", 2): 5,
        ("chaitanya", 8): 3,
        ("ssl4mis", 1): 3,
        ("ssl4mis", 3): 3,
        ("ssl4mis", 7): 3,
    }
    encoded = [cell.key for cell in acdc.cells if cell.arm == "gcl+weak-to-strong"]
    assert encoded == [("gcl+weak-to-strong", "develop", 1, draw) for draw in range(3)]


@pytest.mark.parametrize(("suite", "budgets"), [("hippocampus-ground", (2, 4, 8)), ("la-ground", (2, 4))])
def test_other_organs_have_three_arms_and_three_draws(suites, suite, budgets):
    ground = suites.grounds.GROUNDS[suite]
    for split, arms in (("validation", 3), ("test", 2)):
        cells = [cell for cell in ground.cells if cell.split == split]
        counts = Counter((cell.labelled, cell.draw) for cell in cells)
        assert counts == {(labelled, draw): arms for labelled in budgets for draw in range(3)}
        assert ground.splits[split].part == split
    chosen = {cell.arm for cell in ground.cells if cell.split == "validation"}
    assert chosen == {"weak-to-strong", "+post-processing", "supervised"}
    # Choices come first, and a training serves both parts.
    assert [cell.split for cell in ground.cells] == sorted((cell.split for cell in ground.cells), reverse=True)
    places = {
        part: {(ground.home(cell), ground.training(cell)) for cell in ground.cells if cell.split == part}
        for part in ("validation", "test")
    }
    assert places["test"] < places["validation"]


def test_each_draw_of_the_left_atrium_validates_others(suites):
    ground = suites.la_ground.GROUND
    seeds = {(ground.home(cell), suites.ground_row.prepare_settings(ground, cell)["seed"]) for cell in ground.cells}
    assert seeds == {(f"part-{draw}", draw) for draw in range(3)}
    one = suites.hippocampus_ground.GROUND
    assert {one.home(cell) for cell in one.cells} == {"random"}


def test_the_test_parts_have_to_be_named(suites, acdc):
    def chosen(*words, ground=acdc):
        return {(cell.arm, cell.split) for cell in suites.ground.wanted(ground, words)}

    assert {split for _, split in chosen()} == {"develop"}
    assert chosen("weak-to-strong") == {("weak-to-strong", "develop")}
    assert chosen("ssl4mis/half-the-time") == {("half-the-time", "ssl4mis")}
    assert chosen("develop/bcp", "bcp") == {("bcp", "develop")}
    atrium = suites.la_ground.GROUND
    assert {split for _, split in chosen(ground=atrium)} == {"validation"}
    assert chosen("test/weak-to-strong", ground=atrium) == {("weak-to-strong", "test")}
    with pytest.raises(SystemExit, match=r"la-ground has no arm bcp, test/supervised\. Known: .*test/weak-to-strong"):
        suites.ground.wanted(atrium, ["bcp", "weak-to-strong", "test/supervised"])


def test_all_trainings_cost_the_same_time(suites, tmp_path, monkeypatch):
    arms = suites.ground_arms
    monkeypatch.setattr(arms, "PRETRAINING", {"gcl": 4.0})
    costs = tmp_path / "costs.json"
    rows = {"supervised": 1.0, "fixmatch": 2.5, "mean_teacher": 2.0, "bcp": 3.0}
    costs.write_text(json.dumps({"regimes": {name: {"step": step} for name, step in rows.items()}}))
    for name, training in arms.TRAININGS.items():
        regime = training.regime["name"]
        rest = resolve_plugin("fewlabel.regimes", {"name": regime}).model_dump().get("rest", 0.0)
        spent = arms.steps_of(training, 6000, table=costs) * (rest + (1 - rest) * rows[regime])
        before = 0.0 if training.encoder is None else 4.0 * arms.encoder_steps(training.encoder, 6000)
        assert before == (1600 if name == "gcl+weak-to-strong" else 0), name
        members = training.settings.get("members", 1)
        whole = 3000 if name.startswith("half-the-time") else 6000
        assert spent * members + before == pytest.approx(whole, rel=0.05), name


def test_costs_of_a_data_set_come_first(suites):
    arms = suites.ground_arms
    training = arms.Training({"name": "fixmatch", "rest": 0.5})
    assert arms.steps_of(training, 6000, {"fixmatch": 3.0}) == 3000
    assert arms.steps_of(training, 6000) != 3000


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


def settings_made(stage, given, folder):
    recipe = given.pop("recipe")
    return stage_settings(stage, {"data": folder, "out": folder / "out", **given}, recipe)


@pytest.mark.parametrize("suite", SUITES)
def test_settings_of_every_cell_are_settings(suites, tmp_path, suite):
    ground, row = suites.grounds.GROUNDS[suite], suites.ground_row
    for cell in ground.cells:
        made = settings_made("finetune", row.settings_of(ground, cell), tmp_path)
        assert (made.labelled, made.recalibrate, made.control) == (cell.labelled, "never", False)
        assert (made.seed if cell.split == "ssl4mis" else made.draw) == cell.draw
        assert made.optimiser.lr == 2e-3
        prepared = settings_made("prepare", row.prepare_settings(ground, cell), tmp_path)
        # Whoever is scored is nobody that trains: there is such a part.
        assert ground.splits[cell.split].part == "test" or prepared.validation_fraction > 0
        before = row.pretrain_settings(ground, cell)
        assert (before is None) == (cell.arm != "gcl+weak-to-strong")
        if before is not None:
            assert settings_made("pretrain", before, tmp_path).method.pool == 4


def test_the_arms_of_other_organs_differ_in_nothing_but_the_part(suites):
    for ground in (suites.hippocampus_ground.GROUND, suites.la_ground.GROUND):
        found = [cell for cell in ground.cells if (cell.labelled, cell.draw, cell.split) == (2, 0, "validation")]
        default, control, before = (suites.ground_row.settings_of(ground, cell) for cell in found)
        assert {key for key in control if control[key] != default[key]} == {"regime", "steps"}
        assert {key for key in before if before[key] != control.get(key)} == {"augment", "widen_augment"}


def test_what_was_before_sees_the_middle_of_slices_and_all_else_views_of_whole_ones(suites, acdc, tmp_path):
    row = suites.ground_row
    for cell in acdc.cells:
        prepared = settings_made("prepare", row.prepare_settings(acdc, cell), tmp_path)
        made = settings_made("finetune", row.settings_of(acdc, cell), tmp_path)
        if cell.arm == "supervised":
            assert (prepared.size, prepared.spacing, made.view) == ((128, 128), (1.5, 1.5), None)
        else:
            assert (prepared.size, prepared.spacing, made.view) == (None, None, (128, 128))
        assert made.encoder is not None or cell.arm == "gcl+weak-to-strong" or made.network.width == 16
    for ground in (suites.hippocampus_ground.GROUND, suites.la_ground.GROUND):
        assert not any(ground.middle(cell) for cell in ground.cells)


def test_rows_of_acdc_keep_their_settings(suites, acdc):
    """Rows that are there already were made with these; a change of them would be another table."""
    common = importlib.import_module("common")
    cells = {cell.key: cell for cell in acdc.cells}
    settings = {
        arm: common.settings_hash(suites.ground_row.settings_of(acdc, cells[arm, "develop", 1, 0]))
        for arm in ("weak-to-strong", "half-the-time", "half-the-time-supervised")
    }
    assert settings == {
        "weak-to-strong": "644a71ef8e9e",
        "half-the-time": "63dc90229c05",
        "half-the-time-supervised": "8965272d106c",
    }
    folders = {acdc.home(cell) + "/" + acdc.training(cell) for cell in acdc.cells}
    assert {"develop-middle/plain-m1-d0", "develop/ground-mall-d0", "ssl4mis/half-the-time-m7-d2"} <= folders


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


def test_without_phases_there_is_no_column_of_them(suites):
    plain = {key: value for key, value in row("supervised", "validation", 2, 0, 0.5).items() if key != "dice_by_phase"}
    head, rule, line = suites.ground_summary.details([plain])
    assert head == "| arm | split | M | by class | HD95 in mm | lost |"
    assert head.count("|") == rule.count("|") == line.count("|")
    assert line == "| `supervised` | validation | 2 | RV 0.500 / LV 0.600 | 10.0 | 1 of 80 |"


def test_gains_of_the_test_parts_are_over_the_control(suites):
    rows = [row("+post-processing", "test", 2, 0, 0.5), row("weak-to-strong", "test", 2, 0, 0.75)]
    assert suites.ground_summary.summarise(rows)[2] == "weak-to-strong test 2 1 0.750 nan 0.250 nan nan 100"


def test_an_arm_with_a_control_of_its_own_is_held_against_that(suites):
    rows = [
        row(arm, "develop", 1, 0, dice) for arm, dice in (("supervised", 0.5), ("half-supervised", 0.6), ("half", 0.75))
    ]
    lines = suites.ground_summary.summarise(rows)
    assert lines[2] == "half-supervised develop 1 1 0.600 nan 0.100 nan nan 100"
    assert lines[3] == "half develop 1 1 0.750 nan 0.150 nan nan 100"


@pytest.mark.parametrize(
    ("suite", "split", "labelled", "left"),
    [("acdc-ground", "develop", 1, 4), ("hippocampus-ground", "validation", 8, 2), ("la-ground", "validation", 4, 2)],
)
def test_what_was_not_run_is_told(suites, tmp_path, suite, split, labelled, left):
    ground, path = suites.grounds.GROUNDS[suite], tmp_path / f"{suite}.jsonl"
    assert suites.ground.not_run(ground, path) == list(ground.cells)
    path.write_text(json.dumps(row("supervised", split, labelled, 0, 0.5)) + "\n")
    missing = suites.ground.not_run(ground, path)
    assert len(missing) == len(ground.cells) - 1
    line = f"not run: supervised {split} {labelled}, {left} runs"
    assert line in suites.ground_summary.unfinished(missing)
    summary = runpy.run_path(str(BENCHMARKS / "summary.py"))["ground"]
    lines = summary(suite, markdown=False, by_class=False, results=tmp_path)
    assert lines[0] == suites.ground_summary.HEAD
    assert lines[1].startswith(f"supervised {split} {labelled} 1 0.500")
    assert line in lines
    assert summary(suite, markdown=True, by_class=False, results=tmp_path)[2:] == [
        f"| `supervised` | {split} | {labelled} | 1 | 0.500 |  | 100 |"
    ]


@pytest.mark.parametrize("suite", SUITES)
def test_hours_are_told_before_there_are_rows(suites, tmp_path, suite):
    ground = suites.grounds.GROUNDS[suite]
    cells = suites.ground.wanted(ground, ["weak-to-strong"])
    plan, hours = suites.ground_run.forecast(ground, cells, [], tmp_path)
    assert plan.startswith(f"{len(cells)} of {len(cells)} rows to make, by {len(cells)} trainings of {ground.units} ")
    expected = len(cells) * ground.units * ground.unit_seconds / 3600
    assert hours == f"About {expected:.1f} hours, at {ground.unit_seconds:g} s a supervised step of one core."


def test_the_forecast_goes_by_rows_and_by_what_is_trained(suites, tmp_path):
    ground = suites.la_ground.GROUND
    cells = suites.ground.wanted(ground, ["weak-to-strong", "test/weak-to-strong"])
    there = [row("weak-to-strong", "validation", 2, 0, 0.5, seconds=7200.0)]
    # Twelve rows by six trainings, of which one has a row, but is still needed for its other part.
    plan, hours = suites.ground_run.forecast(ground, cells, there, tmp_path)
    assert plan.startswith("11 of 12 rows to make, by 6 trainings")
    assert hours == "About 12.0 hours, as the rows so far took."
    for draw in range(3):
        for labelled in (2, 4):
            done = tmp_path / f"part-{draw}" / f"weak-to-strong-m{labelled}-d{draw}" / "manifest.json"
            done.parent.mkdir(parents=True)
            done.write_text("{}")
    assert suites.ground_run.forecast(ground, cells, there, tmp_path) == [
        f"11 of 12 rows to make, by 0 trainings of {ground.units} supervised steps each."
    ]
