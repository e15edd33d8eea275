"""The suites that compare all methods: what a row holds, what is run again, what a step is said to cost."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import fewlabel
from fewlabel.pipelines import methods_and_regimes
from fewlabel.stages.pretrain import PretrainingTrainer
from kit.stores import make_store
from kit.tiny import pretrain_settings

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def suites():
    """``suites.pretraining_facts`` and ``suites.method_costs``, imported as ``benchmarks/run.py`` does."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(**{
            name: importlib.import_module(f"suites.{name}") for name in ("pretraining_facts", "method_costs")
        })  # fmt: skip
    finally:
        sys.path.remove(str(BENCHMARKS))


def test_what_a_row_says_of_pretraining_by_stage(suites):
    """A stage is a run of steps with the same loss terms; the last loss is the mean over its last tenth."""
    record = [
        {
            "step": step,
            "loss": float(100 - step),
            "collapsed": 4.1,
            "lower_bound": 1.0,
            "spread": step / 100,
            "effective_rank": step,
            "embedding_std": 0.1,
            f"term/{'views' if step < 60 else 'local'}": 1.0,
        }
        for step in range(100)
    ]
    first, second = suites.pretraining_facts.pretraining_facts(record)
    assert (first["terms"], first["steps"]) == (["views"], [0, 59])
    assert (second["terms"], second["steps"]) == (["local"], [60, 99])
    assert first["loss_first"] == 100.0
    assert first["loss_last"] == pytest.approx(sum(100 - step for step in range(54, 60)) / 6)
    assert first["effective_rank"] == [0, 30, 59]
    assert second["spread"] == [0.6, 0.8, 0.99]
    assert (second["collapsed_last"], second["lower_bound_last"]) == (4.1, 1.0)


class Staged:
    """Plans of a method that asks for labels from step 30 of 40 on."""

    def plan(self, step, total):
        late = step >= total * 3 // 4
        return SimpleNamespace(labelled=late, same_geometry=False, slices=None)


def staged(suites):
    training = SimpleNamespace(model=Staged(), settings=SimpleNamespace(steps=40))
    return suites.method_costs.stages_of(training)


def test_a_method_is_timed_in_the_middle_of_each_stage(suites):
    first, second = staged(suites)
    assert (first.steps, second.steps) == (range(30), range(30, 40))
    schedule = suites.method_costs.middle(second.steps)
    assert [next(schedule) for _ in range(7)] == [35, 36, 37, 38, 39, 35, 36]


def test_costs_are_paired_by_round_and_weighted_by_steps(suites, monkeypatch):
    """The machine is four times slower in the last rounds: ratios and shares are as before."""
    drift = [1.0, 1.0, 4.0, 4.0, 4.0]
    first, second = staged(suites)
    first.total, second.total = [2.0 * d for d in drift], [6.0 * d for d in drift]
    first.data, second.data = [0.2 * d for d in drift], [0.3 * d for d in drift]
    first.after, second.after = [0.0] * 5, [1.2 * d for d in drift]
    first.peak_bytes, second.peak_bytes = 7, 5
    monkeypatch.setattr(suites.method_costs, "extra_bytes", lambda method: 3_000_000)
    row = suites.method_costs.figures([first, second], drift)
    # 30 steps of one stage, 10 of the other: 3/4 and 1/4.
    assert row["step"] == pytest.approx(0.75 * 2 + 0.25 * 6)
    assert row["step_seconds"] == pytest.approx(0.75 * 8 + 0.25 * 24)
    assert row["data_share"] == pytest.approx(0.75 * 0.1 + 0.25 * 0.05)
    assert row["after_share"] == pytest.approx(0.25 * 0.2)
    assert row["peak_bytes"] == 7
    assert [stage["step"] for stage in row["stages"]] == [2.0, 6.0]
    told = suites.method_costs.line("glcl", row)
    assert told.startswith("glcl 3.00 x (12.000 s) data 8.8% after_step 5.0% beside the encoder 3.00 MB")
    assert "above" not in told
    assert "after_step above 10%" in suites.method_costs.line("glcl", {**row, "after_share": 0.101})


def test_memory_beside_the_encoder_counts_each_tensor_once(suites):
    method = nn.Module()
    method.encoder = nn.Linear(10, 10)
    method.head = nn.Linear(5, 4)
    method.tied = method.head
    method.register_buffer("queue", torch.zeros(6, dtype=torch.float64))
    method.register_buffer("count", torch.zeros(3, dtype=torch.int64), persistent=False)
    assert suites.method_costs.extra_bytes(method) == 4 * (5 * 4 + 4) + 8 * 6 + 8 * 3


def test_the_whole_suite_on_a_tiny_store(suites, tmp_path, monkeypatch, capsys):
    prepared = make_store(tmp_path / "prepared", subjects=4, depth=4, size=(32, 32))

    def begin(data, work, name):
        training = PretrainingTrainer.begin(
            pretrain_settings(data, work / name, method={"name": name}, steps=12, labelled=1)
        )
        training.model.train()
        return training

    monkeypatch.setattr(fewlabel, "prepare", lambda **settings: prepared)
    monkeypatch.setattr(suites.method_costs, "begin", begin)
    monkeypatch.setattr(suites.method_costs, "plugin_names", lambda family: ["moco", "simclr", "sscl"])
    monkeypatch.setattr(suites.method_costs, "WARM_UP", 1)
    package = tmp_path / "package" / "costs.json"
    suites.method_costs.run(tmp_path, tmp_path, tmp_path / "results", [], 2, package)
    found = json.loads((tmp_path / "results" / "method-costs.json").read_text())
    assert set(found["methods"]) == {"moco", "simclr", "sscl"}
    assert found["methods"]["simclr"]["step"] == 1.0
    assert {"machine", "load_average", "revision", "versions"} <= set(found)
    for row in found["methods"].values():
        assert row["step_seconds"] > 0
        assert 0 < row["data_share"] < 1
        assert 0 <= row["after_share"] < 1
        assert row["peak_bytes"] > 0
    moco, simclr, sscl = (found["methods"][name] for name in ("moco", "simclr", "sscl"))
    assert moco["extra_bytes"] > simclr["extra_bytes"] > 0
    assert [stage["steps"] for stage in sscl["stages"]][-1][1] == 12
    assert len(sscl["stages"]) == 2
    assert moco["stages"] == []
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["simclr", "moco", "sscl"]
    # What the package carries is what the list of methods reads.
    carried = json.loads(package.read_text())
    rows = {row["name"]: row for row in methods_and_regimes.plugin_rows(methods_and_regimes.METHODS, carried)}
    assert rows["simclr"]["step"] == "1.00 x"
    assert rows["moco"]["memory"].endswith(" MB")
    assert rows["gcl"]["step"] == ""
    assert "Recipe acdc-lite" in methods_and_regimes.cost_note(methods_and_regimes.METHODS, carried)
    # A choice of methods measures them and leaves the package alone.
    before = package.read_text()
    suites.method_costs.run(tmp_path, tmp_path, tmp_path / "other", ["moco"], 1, package)
    assert set(json.loads((tmp_path / "other" / "method-costs.json").read_text())["methods"]) == {"moco", "simclr"}
    assert package.read_text() == before


def test_the_run_settings_are_the_recipes(suites, tmp_path):
    """With the method's own defaults, although the recipe names another method."""
    prepared = make_store(tmp_path / "prepared", subjects=4, depth=4, size=(32, 32))
    training = suites.method_costs.begin(prepared, tmp_path, "moco")
    assert (training.settings.batch, training.settings.network.width) == (32, 16)
    assert training.settings.method == type(training.settings.method)()
    assert training.model.training
