"""``train`` with a budget: what it chooses, tells and keeps, by made-up costs of steps."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fewlabel.cli import app
from fewlabel.cli.overrides import collect
from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import SettingsError
from fewlabel.core.settings.base import located_from, without_absolute
from fewlabel.core.settings.value_syntax import merge, nest
from fewlabel.engine import compiling
from fewlabel.pipelines import train
from fewlabel.pipelines.step_timing import Measured
from fewlabel.pipelines.time_budget_arithmetic import Cost
from kit.pipeline import Stages, whole_chain
from kit.scans import nnunet_folder

__all__ = ["whole_chain"]
pytestmark = pytest.mark.usefixtures("whole_chain")

#: Costs on the stand-in store: 16x16 pixels are a 64th of the 128x128 that the costs are said to be of.
SMALL = 64.0


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    made = Stages.instead(monkeypatch, subjects=6)
    made.costs = Measured(
        Cost("pretrain", 2.0 * SMALL, fixed=10.0 * SMALL),
        (Cost("finetune", 0.5 * SMALL), Cost("control", 0.5 * SMALL)),
        60.0,
    )
    return made


def asked(stages: Stages) -> dict[str, Any]:
    return {name: settings.record() for name, settings in stages.asked}


def resolved(out: Path) -> dict[str, Any]:
    return dict(read_json(out / "run.json")["resolved"])


#: Whatever the recipe ``default`` says is trained.
USUAL: dict[str, Any] = {"pretraining": True, "finetune": {"regime": "supervised", "view": None}}


def default(out: Path, **values: Any) -> Path:
    """``train`` without a word of a budget."""
    told = {"data": out.parent / "raw", "out": out, **merge(USUAL, values)}
    return train.run(train.train_settings(told))


def test_an_hour_is_filled_where_nothing_is_said(stages: Stages, said: list[str], tmp_path: Path) -> None:
    out = default(tmp_path / "run")
    found = asked(stages)
    # A quarter of what 60 s of evaluation and 20 s of report leave, less 10 s that come after the steps.
    assert found["pretrain"]["steps"] == 400
    assert found["finetune"]["steps"] == 2700
    assert found["pretrain"]["network"]["width"] == found["finetune"]["network"]["width"] == 16
    record = resolved(out)
    assert record["budget"] == "1h"
    assert record["step_seconds"] == {"pretrain": 2.0, "finetune": 0.5, "control": 0.5}
    assert record["threads"] >= 1
    assert set(record["precision"].values()) <= {"32", "bf16-mixed"}
    assert found["pretrain"]["precision"] == record["precision"]["pretrain"].removesuffix("-mixed")
    assert record["device"] == {"pretrain": "cpu", "finetune": "cpu", "evaluate": "cpu"}
    rows = {row["name"]: row for row in record["forecast"]["rows"]}
    assert rows["finetune supervised"]["seconds"] == rows["its control"]["seconds"] == 1350.0
    assert rows["pretrain gcl"]["seconds"] == 810.0
    assert record["forecast"]["seconds"] == pytest.approx(3600, abs=60)
    table = "\n".join(said)
    for words in ("stage", "pretrain gcl", "its control", "evaluate", "all of it", "To repeat this run", "It took"):
        assert words in table
    assert not any("cannot be kept" in line for line in said)
    # A path of its own length is one word, which is not broken.
    wide = [line for line in said if len(line) > 80 and str(tmp_path) not in line]
    assert not [line for line in wide if line.startswith(("stage", "pretrain", "all", "  "))]


def test_what_the_report_predicts_is_in_the_forecast(stages: Stages, tmp_path: Path) -> None:
    stages.costs = replace(stages.costs, shown=1000.0)
    out = default(tmp_path / "run")
    rows = {row["stage"]: row["seconds"] for row in resolved(out)["forecast"]["rows"]}
    assert rows["report"] == 1020.0
    assert resolved(out)["forecast"]["seconds"] == pytest.approx(3600, abs=60)
    assert asked(stages)["finetune"]["steps"] < 2700


def test_what_it_took_stands_beside_the_forecast(stages: Stages, tmp_path: Path) -> None:
    record = read_json(default(tmp_path / "run") / "run.json")
    assert record["stages"]["pretrain"]["forecast_seconds"] == 810.0
    assert record["stages"]["finetune"]["forecast_seconds"] == 2700.0
    assert record["stages"]["finetune"]["seconds"] < 60
    assert "forecast_seconds" not in record["stages"]["prepare"]


@pytest.mark.parametrize("values", [{}, {"seed": 3, "finetune": {"labelled": 1}, "budget": "30m"}])
def test_the_printed_words_train_the_same(stages: Stages, tmp_path: Path, values: dict[str, Any]) -> None:
    out = default(tmp_path / "run", **values)
    first = read_json(out / "run.json")["settings"]
    words = resolved(out)["command"]
    assert words[:2] == ["fewlabel", "train"]
    assert words[-1] == "budget=off"
    again = collect({"data": located_from(out, words[2])}, words[5:], {"out": str(tmp_path / "again")})
    stages.measured.clear()
    train.run(train.train_settings(again))
    assert stages.measured == []
    second = json.loads(json.dumps(read_json(tmp_path / "again" / "run.json")["settings"]).replace("/again/", "/run/"))
    first["report"]["run"] = second["report"]["run"]
    assert second == first


def test_what_is_said_stands(stages: Stages, said: list[str], tmp_path: Path) -> None:
    out = default(
        tmp_path / "run",
        budget="20m",
        finetune={"steps": 123, "precision": "32"},
        network={"width": 8},
        prepare={"size": [16, 16]},
    )
    found = asked(stages)
    assert found["finetune"]["steps"] == 123
    assert found["finetune"]["precision"] == "32"
    assert found["pretrain"]["network"]["width"] == 8
    assert found["prepare"]["size"] == [16, 16]
    chosen = [word.partition("=")[0] for word in resolved(out)["words"]]
    # A bare word goes to the stages that were told nothing.
    assert chosen == ["pretrain.steps", "precision"]
    assert found["pretrain"]["precision"] == found["evaluate"]["precision"] != "auto"


def test_steps_that_are_said_switch_the_default_off(stages: Stages, said: list[str], tmp_path: Path) -> None:
    """A forecast is told all the same."""
    for number, values in enumerate(({"steps": 700}, {"finetune": {"steps": 700}}, {"pretrain": {"steps": 700}})):
        stages.asked.clear()
        out = default(tmp_path / f"run{number}", **values)
        found = asked(stages)
        assert {found["pretrain"]["steps"], found["finetune"]["steps"]} <= {700, 3000}
        assert found["finetune"]["network"]["width"] == 32
        assert found["finetune"]["precision"] == "auto"
        assert resolved(out)["budget"] is None
        assert resolved(out)["words"] == []
    assert any("all of it" in line for line in said)


def test_with_a_recipe_nothing_is_chosen_unless_a_budget_is_given(
    stages: Stages, said: list[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("finetune: {steps: 777}\nseed: 5\n")
    values = {"data": tmp_path / "raw", "out": tmp_path / "run"}
    train.run(train.train_settings(values, recipe))
    assert asked(stages)["pretrain"]["steps"] == 3000
    assert resolved(tmp_path / "run")["words"] == []
    raw, out = str(tmp_path / "raw"), str(tmp_path / "run")
    # Another machine may find another precision: it is the one word that nobody said.
    precision = resolved(tmp_path / "run")["precision"]["finetune"].removesuffix("-mixed")
    words = ["fewlabel", "train", raw, "--out", out, "--recipe", str(recipe), f"precision={precision}", "budget=off"]
    assert resolved(tmp_path / "run")["command"] == without_absolute(tmp_path / "run", words)
    stages.asked.clear()
    train.run(train.train_settings({**values, "out": tmp_path / "sized", "budget": "1h"}, recipe))
    found = asked(stages)
    assert (found["pretrain"]["steps"], found["finetune"]["steps"]) == (400, 777)
    # A recipe may bring a budget of its own.
    recipe.write_text("budget: 2h\npretraining: false\n")
    own = train.train_settings(values, recipe)
    assert (own.seconds, own.pretrains) == (7200, False)
    assert train.train_settings({**values, "budget": "off"}, recipe).seconds is None


@pytest.mark.parametrize("off", ["off", "OFF", None])
def test_off_measures_and_chooses_nothing(stages: Stages, said: list[str], tmp_path: Path, off: str | None) -> None:
    out = default(tmp_path / "run", budget=off)
    assert stages.measured == []
    assert resolved(out) == {}
    assert asked(stages)["finetune"]["steps"] == 3000
    assert not any("all of it" in line for line in said)


def test_runs_of_few_steps_are_not_timed(stages: Stages, tmp_path: Path) -> None:
    default(tmp_path / "run", steps=20)
    assert stages.measured == []


@pytest.mark.parametrize("budget", [45, "45", 1.5, "soon", "0m"])
def test_a_budget_without_a_unit_is_refused_before_any_work(stages: Stages, tmp_path: Path, budget: Any) -> None:
    with pytest.raises(SettingsError, match="budget") as caught:
        default(tmp_path / "run", budget=budget, finetune={"steps": 0})
    assert {fault.where for fault in caught.value.faults} == {"budget", "finetune.steps"}
    assert not (tmp_path / "run").exists()


def test_the_command_line_says_to_add_a_unit(tmp_path: Path) -> None:
    done = CliRunner(env={"COLUMNS": "300"}).invoke(
        app, ["train", str(tmp_path), "--out", str(tmp_path / "r"), "budget=45"]
    )
    assert done.exit_code == 2
    assert "add its unit, e.g. 45m" in done.stderr


def test_a_small_budget_makes_the_network_narrow_and_a_smaller_one_is_told_apart(
    stages: Stages, said: list[str], tmp_path: Path
) -> None:
    default(tmp_path / "run", budget="10m")
    found = asked(stages)
    assert found["finetune"]["network"]["width"] == 8
    assert [plans["finetune"].network.width for plans, _ in stages.measured] == [16, 8]
    assert found["finetune"]["steps"] >= 500
    assert not any("cannot be kept" in line for line in said)
    stages.asked.clear()
    out = default(tmp_path / "tiny", budget="60s")
    assert asked(stages)["finetune"]["steps"] == 200
    assert "budget=60s cannot be kept: no training has fewer than 200 steps." in said
    assert resolved(out)["forecast"]["seconds"] > 200


def test_a_wide_network_stays_wide_where_it_was_asked_for(stages: Stages, tmp_path: Path) -> None:
    default(tmp_path / "run", budget="5m", network={"width": 64})
    assert [plans["finetune"].network.width for plans, _ in stages.measured] == [64]


def test_steps_that_do_not_fit_are_told(stages: Stages, said: list[str], tmp_path: Path) -> None:
    default(tmp_path / "run", budget="10m", finetune={"steps": 5000})
    assert "budget=10m cannot be kept: finetune.steps=5000 stands as set." in said


def test_a_continued_run_keeps_its_size_and_measures_nothing(stages: Stages, said: list[str], tmp_path: Path) -> None:
    out = tmp_path / "run"
    stages.fail = "finetune"
    with pytest.raises(Exception, match="finetune failed"):
        default(out, budget="20m")
    first = resolved(out)
    stages.fail = ""
    stages.measured.clear()
    stages.asked.clear()
    default(out, resume=True, budget="3h")
    assert stages.measured == []
    assert resolved(out) == first
    assert asked(stages)["finetune"]["steps"] == int(dict(word.split("=") for word in first["words"])["finetune.steps"])
    assert any("began with budget=20m and keeps it" in line for line in said)
    assert read_json(out / "run.json")["finished"] is True
    # Without a word, and with the words it had chosen.
    default(out, resume=True)
    default(out, resume=True, **nest(first["words"]))
    with pytest.raises(SettingsError, match=r"finetune\.steps: was .* when the run began"):
        default(out, resume=True, finetune={"steps": 3})


@pytest.mark.parametrize("pretraining", [True, False])
def test_a_word_that_a_continued_run_takes_back_is_none_of_its_record(
    stages: Stages, said: list[str], tmp_path: Path, *, pretraining: bool
) -> None:
    out = tmp_path / "run"
    stages.fail = "finetune"
    with pytest.raises(Exception, match="finetune failed"):
        default(out, budget="20m", pretraining=pretraining)
    first = resolved(out)
    steps = next(word for word in first["words"] if word.startswith("finetune.steps="))
    assert "network.width=16" in first["words"]
    stages.fail = ""
    stages.asked.clear()
    # An encoder that is there is as wide as it was made.
    other = {} if pretraining else {"network": {"width": 24}}
    default(out, resume=True, pretraining=pretraining, finetune={"steps": 321, **other})
    found = asked(stages)
    width = 16 if pretraining else 24
    assert (found["finetune"]["steps"], found["finetune"]["network"]["width"]) == (321, width)
    now = resolved(out)
    assert steps not in {*now["words"], *now["command"]}
    assert ("network.width=16" in now["words"]) is pretraining
    assert "finetune.steps=321" in now["command"]
    assert pretraining or "finetune.network.width=24" in now["command"]
    again = train.train_settings(collect({"data": str(out)}, now["command"][5:], {"out": str(tmp_path / "again")}))
    plans = train.plan(again)
    trained = ["pretrain", "finetune"] if pretraining else ["finetune"]
    assert ("pretrain" in plans) is pretraining
    assert [plans[name].record()["network"] for name in trained] == [found[name]["network"] for name in trained]


def test_an_open_precision_of_one_stage_is_written_down_for_it(stages: Stages, tmp_path: Path) -> None:
    """``finetune.precision=auto`` would win over a word for all stages."""
    for number, values in enumerate(({"budget": "30m"}, {"steps": 700})):
        out = default(tmp_path / f"run{number}", **merge(values, {"finetune": {"precision": "auto"}}))
        words = resolved(out)["command"]
        precision = resolved(out)["precision"]["finetune"].removesuffix("-mixed")
        assert "finetune.precision=auto" not in words
        again = train.train_settings(
            collect({"data": located_from(out, words[2])}, words[5:], {"out": str(tmp_path / "again")})
        )
        plans = train.plan(again)
        assert {plans[name].precision for name in ("pretrain", "finetune", "evaluate")} == {precision}


def test_an_encoder_that_nothing_is_taken_from_is_told_before_it_is_trained(
    stages: Stages, said: list[str], tmp_path: Path
) -> None:
    told = "finetune.mode=scratch takes nothing from the encoder; pretraining=false would train none."
    stages.fail = "pretrain"
    with pytest.raises(Exception, match="pretrain failed"):
        default(tmp_path / "run", budget="off", finetune={"mode": "scratch"})
    assert told in said
    said.clear()
    stages.fail = ""
    default(tmp_path / "none", budget="off", pretraining=False, finetune={"mode": "scratch"})
    default(tmp_path / "warm", budget="off")
    assert told not in said


def test_a_run_that_was_stopped_while_it_was_timed_goes_on_with_its_budget(
    stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def stopped(*words: Any, **settings: Any) -> Any:
        raise KeyboardInterrupt

    from fewlabel.pipelines import step_timing

    monkeypatch.setattr(step_timing, "measure", stopped)
    with pytest.raises(KeyboardInterrupt):
        default(out, budget="20m")
    assert resolved(out) == {"budget": "20m", "words": []}
    monkeypatch.setattr(step_timing, "measure", stages.measure)
    default(out, resume=True)
    assert resolved(out)["budget"] == "20m"
    assert asked(stages)["pretrain"]["steps"] == 200


def test_a_run_that_was_not_sized_is_not_when_it_goes_on(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stages.fail = "finetune"
    with pytest.raises(Exception, match="finetune failed"):
        default(out, budget="off")
    stages.fail = ""
    default(out, resume=True)
    assert stages.measured == []
    assert asked(stages)["finetune"]["steps"] == 3000


def test_without_pretraining_the_network_learns_from_scratch(stages: Stages, said: list[str], tmp_path: Path) -> None:
    stages.costs = Measured(None, (Cost("finetune", 0.5 * SMALL),), 60.0)
    out = default(tmp_path / "run", pretraining=False)
    assert stages.names == ["prepare", "finetune", "evaluate", "report"]
    found = asked(stages)
    assert found["finetune"]["encoder"] is None
    assert found["evaluate"]["control"] is None
    assert found["finetune"]["steps"] == 7000
    assert "pretraining=false: the network learns from scratch." in said
    assert "pretraining=false" in resolved(out)["command"]
    stages.asked.clear()
    default(tmp_path / "taught", pretraining=False, finetune={"regime": "mean_teacher"})
    assert asked(stages)["evaluate"]["control"] == str(tmp_path / "taught" / "segmenter-control")


def test_volumes_are_sized_by_steps_on_their_patches(stages: Stages, tmp_path: Path) -> None:
    default(tmp_path / "run", finetune={"patch": [16, 32, 32], "regime": "mean_teacher"})
    ((plans, _),) = stages.measured
    assert "pretrain" not in plans
    assert list(plans["finetune"].patch) == [16, 32, 32]
    assert asked(stages)["finetune"]["steps"] == 3500


def test_without_labels_pretraining_gets_the_whole_time(stages: Stages, tmp_path: Path) -> None:
    stages.store["unlabelled"] = [f"patient{number:03d}" for number in range(1, 7)]
    default(tmp_path / "run")
    assert asked(stages)["pretrain"]["steps"] == 1750
    assert stages.names == ["prepare", "pretrain"]


def test_the_demo_takes_a_budget_and_keeps_its_recipe(stages: Stages, said: list[str], tmp_path: Path) -> None:
    from fewlabel.pipelines import demo

    out = tmp_path / "demo"
    demo.run(demo.demo_settings({"out": out, "patients": 4, "test": 2, "budget": "1m"}))
    found = asked(stages)
    assert "pretrain" not in found
    assert found["finetune"]["steps"] == 600
    assert "budget=1m cannot be kept: finetune.steps=600 stands as set." in said
    words = ["fewlabel", "train", str(out / "data"), "--out", str(out), "--recipe"]
    assert resolved(out)["command"][:6] == without_absolute(out, words)


def test_the_words_are_one_command_to_a_shell(stages: Stages, said: list[str], tmp_path: Path) -> None:
    out = default(tmp_path / "a run", subjects=["patient001", "patient002"])
    start = said.index("To repeat this run, here or on another machine:") + 1
    lines = said[start : start + next(n for n, line in enumerate(said[start:]) if not line.endswith("\\")) + 1]
    words = shlex.split(" ".join(line.removesuffix("\\") for line in lines))
    assert without_absolute(out, words) == resolved(out)["command"]
    assert "subjects=[patient001,patient002]" in resolved(out)["command"]


class TestGrids:
    """With a real data set, whose steps are said to take so long."""

    @pytest.fixture
    def data(self, tmp_path: Path) -> Path:
        return nnunet_folder(tmp_path / "raw", tuple("abcdef"), shape=(4, 160, 130))

    def test_the_grid_is_said_before_the_scans_are_prepared(self, stages: Stages, data: Path, tmp_path: Path) -> None:
        """The structure of these masks is 4 pixels thick: no coarser grid would do, so nothing is timed for it."""
        out = default(tmp_path / "run")
        found = asked(stages)["prepare"]
        assert (found["size"], found["spacing"]) == ([160, 144], [1.0, 1.0])
        assert resolved(out)["words"][:2] == ["prepare.size=[160,144]", "prepare.spacing=[1.0,1.0]"]
        assert [size for _, size in stages.measured] == [(16, 16)]

    def test_a_small_budget_takes_a_coarser_one(
        self, stages: Stages, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from fewlabel.pipelines import time_budget_arithmetic

        monkeypatch.setattr(time_budget_arithmetic, "PIXELS_THICK", 1.0)
        for name, words, spacing in (
            ("hour", "10h", [1.0, 1.0]),
            ("less", "1h", [1.5, 1.5]),
            ("tiny", "5m", [2.0, 2.0]),
        ):
            stages.asked.clear()
            stages.measured.clear()
            stages.costs = Measured(Cost("pretrain", 3.0), (Cost("finetune", 0.6), Cost("control", 0.6)), 60.0)
            default(tmp_path / name, budget=words)
            found = asked(stages)["prepare"]
            assert found["spacing"] == spacing, name
            # On made-up slices of the coarsest grid, with the metadata and labels of the real ones.
            plans, size = stages.measured[0]
            assert tuple(size) == (80, 80)
            assert plans["finetune"].network.width == 16

    def test_what_is_said_of_the_grid_stands(self, stages: Stages, data: Path, tmp_path: Path) -> None:
        out = default(tmp_path / "run", prepare={"spacing": [2.0, 2.0]})
        found = asked(stages)["prepare"]
        assert (found["size"], found["spacing"]) == ([80, 80], [2.0, 2.0])
        assert "prepare.size=[80,80]" in resolved(out)["words"]
        assert not any(word.startswith("prepare.spacing") for word in resolved(out)["words"])

    def test_a_deeper_network_gets_sides_that_it_can_halve(self, stages: Stages, data: Path, tmp_path: Path) -> None:
        stages.store["size"] = (64, 64)
        default(tmp_path / "run", network={"depth": 6})
        assert asked(stages)["prepare"]["size"] == [160, 160]

    def test_data_with_faults_are_left_to_prepare(self, stages: Stages, data: Path, tmp_path: Path) -> None:
        (data / "labelsTr" / "a.nii.gz").write_bytes(b"no mask")
        out = default(tmp_path / "run")
        assert asked(stages)["prepare"]["size"] is None
        assert not any("prepare" in word for word in resolved(out)["words"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # A quarter of .85 of an hour is less than a quarter of an hour, and the rest of it is more.
        ({}, {"pretrain": False, "finetune": True}),
        ({"budget": "15m"}, {"pretrain": False, "finetune": False}),
        ({"budget": "3h"}, {"pretrain": True, "finetune": True}),
        ({"finetune": {"compile": False}}, {"pretrain": False, "finetune": False}),
        ({"budget": "3h", "pretrain": {"compile": True}}, {"pretrain": True, "finetune": True}),
        # How long that takes follows from the steps.
        ({"budget": "3h", "finetune": {"steps": 123}}, {"pretrain": True, "finetune": "auto"}),
    ],
)
def test_a_budget_decides_whether_compiling_pays(
    stages: Stages, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, Any], expected: dict[str, Any]
) -> None:
    monkeypatch.setattr(compiling, "unpaid", lambda *machine: "")
    out = default(tmp_path / "run", **values)
    found = asked(stages)
    assert {name: found[name]["compile"] for name in expected} == expected
    # Steps are timed as they are run, and the words of the run say so.
    plans, _ = stages.measured[-1]
    assert {name: plans[name].compile for name in expected} == expected
    words = [word for word in resolved(out)["words"] if "compile" in word]
    given = {name for name in expected if "compile" in values.get(name, {}) or expected[name] == "auto"}
    assert words == [f"{name}.compile={str(expected[name]).lower()}" for name in expected if name not in given]


def test_where_compiling_brings_nothing_no_word_is_said_of_it(stages: Stages, tmp_path: Path) -> None:
    out = default(tmp_path / "run", budget="3h")
    assert {asked(stages)[name]["compile"] for name in ("pretrain", "finetune")} == {"auto"}
    assert not any("compile" in word for word in resolved(out)["words"])
