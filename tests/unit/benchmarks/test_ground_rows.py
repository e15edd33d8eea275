"""Rows of the ground suites: a tiny left atrium by the real stages, and what an arm behind an encoder asks for."""

from __future__ import annotations

import importlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import fewlabel
from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import read_json
from kit.h5 import atrium_folder

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TINY = {
    "network": {"width": 4, "depth": 2},
    "patch": [4, 8, 8],
    "batch": 1,
    "steps": 2,
    "device": "cpu",
    "precision": "32",
}


@pytest.fixture
def suites(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    names = ("acdc_ground", "ground", "ground_arms", "ground_row", "ground_run", "hippocampus_ground", "la_ground")
    return SimpleNamespace(**{name: importlib.import_module(f"suites.{name}") for name in names})


def rows(folder, suite):
    return [json.loads(line) for line in (folder / f"{suite}.jsonl").read_text().splitlines()]


def test_a_left_atrium_is_trained_once_and_scored_on_two_parts(suites, tmp_path, monkeypatch, capsys):
    full = suites.la_ground.GROUND
    small = {"size": [20, 24], "spacing": [0.625, 0.625], "workers": 1}
    tiny = replace(
        full,
        cells=tuple(cell for cell in full.cells if (cell.labelled, cell.draw) == (2, 0)),
        splits={name: replace(split, prepare={**split.prepare, **small}) for name, split in full.splits.items()},
        finetune={**full.finetune, **TINY},
    )
    names = [f"V{number}" for number in range(8)]
    data = atrium_folder(tmp_path / "la", train=names, test=["T0", "T1", "T2"])
    suites.ground_run.run(tiny, data, tmp_path / "work", tmp_path, [])
    assert "3 of 3 rows to make, by 3 trainings" in capsys.readouterr().out
    trained = []
    finetune = fewlabel.finetune
    monkeypatch.setattr(fewlabel, "finetune", lambda **settings: trained.append(settings) or finetune(**settings))
    suites.ground_run.run(tiny, data, tmp_path / "work", tmp_path, ["test/weak-to-strong", "test/+post-processing"])
    assert "2 of 2 rows to make, by 0 trainings" in capsys.readouterr().out
    suites.ground_run.run(tiny, data, tmp_path / "work", tmp_path, [])
    assert not trained
    made = rows(tmp_path, "la-ground")
    assert [suites.ground.Cell(row["arm"], row["split"], row["labelled"], row["draw"]) for row in made] == list(
        tiny.cells
    )
    assert [row["test_cases"] for row in made] == [2, 2, 2, 3, 3]
    assert {(*row["dice_by_class"], row["steps"], "dice_by_phase" in row) for row in made} == {
        ("left atrium", 2, False)
    }
    home = tmp_path / "work" / "la-ground" / "part-0"
    parts = read_json(home / "prepared" / "split.json")["parts"]
    assert parts["test"] == ["T0", "T1", "T2"]
    assert (len(parts["train"]), len(parts["validation"])) == (6, 2)
    # In 3D, statistics are those of patches of whoever is not scored.
    readout = importlib.import_module("suites.ground_readout")
    other = readout.with_statistics(home / "prepared", home / "ground-m2-d0", tmp_path / "statistics")
    facts = read_json(other / "segmenter.json")["recalibrated"]
    assert facts["subjects"] == 6
    assert 0 < facts["patches"] <= 32
    scored = read_json(home / "scores-validation-weak-to-strong-m2-d0" / "summary.json")
    assert (scored["part"], scored["subjects"]) == ("validation", sorted(parts["validation"]))


@pytest.fixture
def asked(monkeypatch):
    """What the stages were asked for, by stages that only leave a record."""
    made = {"prepare": [], "pretrain": [], "finetune": [], "evaluate": []}

    def stage(name, kind, seconds):
        def run(**settings):
            made[name].append(settings)
            folder = settings["out"]
            if not (folder / "manifest.json").is_file():
                folder.mkdir(parents=True)
                (folder / "metrics.jsonl").write_text(json.dumps({"step": 0, "seconds": 0.5}) + "\n")
                finish_artifact(folder, kind, ["metrics.jsonl"], wall_seconds=seconds)
            return folder

        monkeypatch.setattr(fewlabel, name, run)

    stage("prepare", "prepared", 1.0)
    stage("pretrain", "encoder", 1000.0)
    stage("finetune", "segmenter", 3000.0)
    stage("evaluate", "scores", 1.0)
    return made


def test_an_arm_behind_an_encoder_pays_for_it(suites, asked, tmp_path, monkeypatch):
    row, arms, ground = suites.ground_row, suites.ground_arms, suites.acdc_ground.GROUND
    monkeypatch.setattr(row, "figures", lambda prepared, scores: {"dice": 0.5})
    suites.ground_run.run(ground, tmp_path / "acdc", tmp_path / "work", tmp_path, ["gcl+weak-to-strong"])
    made = rows(tmp_path, "acdc-ground")
    assert [(one["split"], one["labelled"], one["draw"]) for one in made] == [("develop", 1, draw) for draw in range(3)]
    home = tmp_path / "work" / "acdc-ground" / "develop"
    # One encoder for all draws, and each row says its time beside that of the fine-tuning.
    before = {json.dumps(call, default=str, sort_keys=True) for call in asked["pretrain"]}
    assert len(before) == 1
    assert asked["pretrain"][0]["out"] == home / "encoder-gcl"
    assert [call["encoder"] for call in asked["finetune"]] == [home / "encoder-gcl"] * 3
    assert all(4000 <= one["seconds"] < 4100 for one in made)
    plain = arms.steps_of(arms.TRAININGS["weak-to-strong"], ground.units)
    assert {one["steps"] for one in made} == {call["steps"] for call in asked["finetune"]}
    assert all(one["steps"] == pytest.approx(0.75 * plain, abs=150) for one in made)
    assert {one["pretrain_steps"] for one in made} == {asked["pretrain"][0]["steps"]}
    common = importlib.import_module("common")
    cell = next(cell for cell in ground.cells if cell.arm == "gcl+weak-to-strong")
    assert made[0]["settings"] != common.settings_hash(row.settings_of(ground, cell))


def test_a_part_that_is_scored_is_the_one_that_is_evaluated(suites, asked, tmp_path, monkeypatch):
    monkeypatch.setattr(suites.ground_row, "figures", lambda prepared, scores: {"dice": 0.5})
    ground = suites.hippocampus_ground.GROUND
    words = ["weak-to-strong", "test/weak-to-strong"]
    suites.ground_run.run(ground, tmp_path / "hippocampus", tmp_path / "work", tmp_path, words)
    assert [call["part"] for call in asked["evaluate"]] == ["validation"] * 9 + ["test"] * 9
    assert len(asked["finetune"]) == 9
    assert {str(call["out"]) for call in asked["prepare"]} == {
        str(tmp_path / "work" / "hippocampus-ground" / "random" / "prepared")
    }
    assert all(call["encoder"] is None for call in asked["finetune"])
    assert len({str(call["out"]) for call in asked["evaluate"]}) == 18
