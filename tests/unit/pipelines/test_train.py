"""The chain: what it asks of each stage, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.artifact.run_record import write_run
from fewlabel.core.errors import DataError, SettingsError
from fewlabel.pipelines import demo, train
from fewlabel.scoring.summary import summarise
from kit.pipeline import Stages, go


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    return Stages.instead(monkeypatch)


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(SettingsError) as caught:
        call()
    return str(caught.value)


def test_the_stages_are_chained_by_their_folders(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert go(out, seed=4, pretrain={"steps": 9}) == out
    assert stages.names == list(train.CHAIN)
    asked = {name: settings.record() for name, settings in stages.asked}
    assert asked["prepare"]["data"] == str((tmp_path / "raw").resolve())
    for name in ("pretrain", "finetune", "evaluate"):
        assert asked[name]["data"] == str(out / "prepared")
    assert asked["finetune"]["encoder"] == str(out / "encoder")
    assert asked["finetune"]["control"] is True
    assert asked["evaluate"]["segmenter"] == str(out / "segmenter")
    assert asked["evaluate"]["control"] == str(out / "segmenter-control")
    assert asked["report"]["run"] == str(out)
    assert {values["seed"] for values in asked.values()} == {4}
    assert asked["pretrain"]["steps"] == 9
    assert asked["pretrain"]["resume"] is False


def test_a_control_that_nobody_wants_is_left_out(stages: Stages, tmp_path: Path) -> None:
    go(tmp_path / "run", finetune={"control": False})
    asked = {name: settings.record() for name, settings in stages.asked}
    assert asked["finetune"]["control"] is False
    assert asked["evaluate"]["control"] is None
    assert "finetune.control" in refusal(lambda: go(tmp_path / "other", finetune={"control": "perhaps"}))


def test_the_run_is_recorded(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("seed: 2\n")
    train.run(train.train_settings({"data": tmp_path, "out": out}, recipe))
    record = read_json(out / "run.json")
    assert record["finished"] is True
    assert record["recipe"] == "mine"
    assert list(record["stages"]) == list(train.CHAIN)
    assert record["stages"]["pretrain"]["folder"] == "encoder"
    assert record["settings"]["pretrain"]["seed"] == 2
    assert record["versions"]["torch"]


def test_faults_of_all_stages_come_at_once_before_any_work(stages: Stages, tmp_path: Path) -> None:
    values = {"pretrain": {"steps": 0}, "finetune": {"mode": "cold"}, "evaluate": {"flips": True}}
    told = refusal(lambda: go(tmp_path / "run", **values))
    for part in ("pretrain.steps", "finetune.mode", "evaluate.flips", "Did you mean flip?"):
        assert part in told
    assert not (tmp_path / "run").exists()
    assert stages.asked == []


def test_a_folder_in_use_is_refused_and_left_alone(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    (out).mkdir()
    (out / "mine.txt").write_text("x")
    assert "is not empty. Give another --out" in refusal(lambda: go(out))
    (out / "mine.txt").unlink()
    go(out)
    assert "holds a run already. Give --resume" in refusal(lambda: go(out))
    assert "run.json is a file, not a folder" in refusal(lambda: go(tmp_path / "run" / "run.json"))


def test_resuming_asks_every_stage_to_resume_and_keeps_times(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stages.fail = "finetune"
    with pytest.raises(DataError):
        go(out)
    record = read_json(out / "run.json")
    assert record["finished"] is False
    assert list(record["stages"]) == ["prepare", "pretrain"]
    record["stages"]["pretrain"]["seconds"] = 1234.0
    write_run(out, record)
    stages.fail = ""
    stages.asked.clear()
    go(out, resume=True)
    asked = dict(stages.asked)
    assert asked["pretrain"].resume is True  # type: ignore[attr-defined]
    assert asked["finetune"].resume is True  # type: ignore[attr-defined]
    assert read_json(out / "run.json")["stages"]["pretrain"]["seconds"] == 1234.0
    assert read_json(out / "run.json")["finished"] is True


def test_resuming_with_other_settings_names_each_before_any_work(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(out, pretrain={"steps": 9})
    stages.asked.clear()
    values = {"pretrain": {"steps": 8, "device": "cpu", "checkpoint_seconds": 1.0}, "prepare": {"position_parts": 3}}
    told = refusal(lambda: go(out, resume=True, **values))
    assert "pretrain.steps: was 9 when the run began and is 8 now" in told
    assert "prepare.position_parts" in told
    assert "device" not in told
    # A group is told by the setting of it that differs, another plug-in by its name.
    told = refusal(lambda: go(out, resume=True, pretrain={"steps": 9, "network": {"width": 8}, "method": "simclr"}))
    assert "pretrain.network.width: was 32 when the run began and is 8 now" in told
    assert 'pretrain.method: was "gcl" when the run began and is "simclr" now' in told
    assert len(told.splitlines()) == 3
    assert "checkpoint_seconds" not in told
    assert stages.asked == []
    other = {"data": tmp_path / "other", "out": out, "resume": True, "pretrain": {"steps": 9}}
    assert "prepare.data" in refusal(lambda: train.run(train.train_settings(other)))


def test_stages_that_never_began_may_change(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stages.fail = "finetune"
    with pytest.raises(DataError):
        go(out)
    stages.fail = ""
    go(out, resume=True, finetune={"steps": 3})
    assert read_json(out / "run.json")["settings"]["finetune"]["steps"] == 3


def test_volumes_are_trained_from_scratch_beside_a_supervised_control(
    stages: Stages, said: list[str], tmp_path: Path
) -> None:
    out = go(tmp_path / "run", finetune={"patch": [16, 32, 32], "regime": "mean_teacher"})
    assert stages.names == ["prepare", "finetune", "evaluate", "report"]
    asked = {name: settings.record() for name, settings in stages.asked}
    assert asked["finetune"]["encoder"] is None
    assert asked["finetune"]["control"] is True
    assert asked["finetune"]["patch"] == [16, 32, 32]
    assert asked["evaluate"]["control"] == str(out / "segmenter-control")
    assert any("no pre-training, which is 2D" in line for line in said)
    assert list(read_json(out / "run.json")["stages"]) == stages.names
    assert read_json(out / "run.json")["finished"] is True
    told = refusal(lambda: go(tmp_path / "other", finetune={"patch": [16, 30, 32]}))
    assert "finetune.patch: sides must be multiples of 16" in told
    told = refusal(lambda: go(out, finetune={"patch": [32, 32, 32], "regime": "mean_teacher"}, resume=True))
    assert "finetune.patch: was [16, 32, 32] when the run began and is [32, 32, 32] now" in told


def test_supervised_volumes_from_scratch_are_their_own_control(stages: Stages, tmp_path: Path) -> None:
    go(tmp_path / "run", finetune={"patch": [16, 32, 32]})
    asked = {name: settings.record() for name, settings in stages.asked}
    assert asked["finetune"]["regime"]["name"] == "supervised"
    assert asked["evaluate"]["control"] is None


def test_volumes_need_no_settings_of_pre_training(stages: Stages, tmp_path: Path) -> None:
    """A bare network is that of fine-tuning: pre-training, which would refuse it, takes no part."""
    out = go(tmp_path / "run", patch=[16, 32, 32], network={"ndim": 3})
    assert stages.names == ["prepare", "finetune", "evaluate", "report"]
    assert "pretrain" not in read_json(out / "run.json")["settings"]
    assert "pretrain.network.ndim" in refusal(lambda: go(tmp_path / "flat", network={"ndim": 3}))


def test_a_run_begun_without_a_control_may_go_on_with_one(stages: Stages, tmp_path: Path) -> None:
    out = go(tmp_path / "run", patch=[16, 32, 32], regime="mean_teacher")
    record = read_json(out / "run.json")
    record["settings"]["finetune"]["control"] = False
    write_run(out, record)
    stages.asked.clear()
    go(out, patch=[16, 32, 32], regime="mean_teacher", resume=True)
    assert dict(stages.asked)["finetune"].control is True  # type: ignore[attr-defined]


def test_volumes_without_labels_leave_nothing_to_do(stages: Stages, said: list[str], tmp_path: Path) -> None:
    stages.store = {"unlabelled": [f"patient{number:03d}" for number in range(1, 5)]}
    go(tmp_path / "run", patch=[16, 32, 32])
    assert stages.names == ["prepare"]
    assert any("nothing can be trained on patches" in line for line in said)


def test_without_labels_there_is_an_encoder_only(stages: Stages, said: list[str], tmp_path: Path) -> None:
    stages.store = {"unlabelled": [f"patient{number:03d}" for number in range(1, 5)]}
    out = go(tmp_path / "run")
    assert stages.names == ["prepare", "pretrain"]
    assert any("No scan of the training part has a label" in line for line in said)
    assert read_json(out / "run.json")["finished"] is True


def test_without_labelled_test_scans_nothing_is_evaluated(stages: Stages, said: list[str], tmp_path: Path) -> None:
    stages.store = {"unlabelled": ["patient004"]}
    go(tmp_path / "run")
    assert stages.names == ["prepare", "pretrain", "finetune", "report"]
    assert any("No test scan has a label" in line for line in said)


def test_another_part_is_scored_where_no_test_scan_has_a_label(stages: Stages, tmp_path: Path) -> None:
    stages.store = {"unlabelled": ["patient004"]}
    values = {"evaluate": {"part": "validation"}, "finetune": {"validation": "none"}}
    go(tmp_path / "run", **values)
    assert stages.names == list(train.CHAIN)
    assert dict(stages.asked)["evaluate"].part == "validation"  # type: ignore[attr-defined]
    stages.store = {"unlabelled": ["patient003", "patient004"]}
    with pytest.raises(DataError, match=r"evaluate\.part: \"validation\" has no labelled scans"):
        go(tmp_path / "other", **values)


def test_a_pipeline_refuses_several_processes(stages: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "Launch pretrain and finetune instead" in refusal(lambda: go(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["acdc", "acdc-lite", "demo", "la", "la-lite"])
def test_the_shipped_recipes_hold_valid_settings_only(name: str, tmp_path: Path) -> None:
    settings = train.train_settings({"data": tmp_path, "out": tmp_path / "run"}, name)
    plans = train.plan(settings)
    assert list(plans) == [stage for stage in train.CHAIN if stage != "pretrain" or name.startswith("acdc")]
    assert plans["finetune"].record()["control"] is True
    assert plans["evaluate"].record()["control"] == str(tmp_path / "run" / "segmenter-control")
    assert settings.recipe == name


def test_the_demo_writes_hearts_once_and_trains_on_them(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "demo"
    # The stand-in for prepare makes slices of 16x16 pixels, which the recipe's pool is too large for.
    learning = {"steps": 3, "method": {"pool": 1}}
    values = {"out": out, "patients": 4, "test": 2, "pretraining": True, "pretrain": learning}
    assert demo.run(demo.demo_settings(values)) == out
    first = (out / "data" / "scans.csv").stat().st_mtime_ns
    asked = {name: settings.record() for name, settings in stages.asked}
    assert asked["prepare"]["data"] == str(out / "data")
    assert asked["pretrain"]["steps"] == 3
    assert read_json(out / "run.json")["recipe"] == "demo"
    assert "Give --resume" in refusal(lambda: demo.run(demo.demo_settings(values)))
    demo.run(demo.demo_settings({**values, "resume": True}))
    assert (out / "data" / "scans.csv").stat().st_mtime_ns == first


def test_a_wrong_setting_of_the_demo_is_found_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    assert "Did you mean steps?" in refusal(lambda: demo.run(demo.demo_settings({"out": out, "stepz": 3})))
    assert "patients" in refusal(lambda: demo.demo_settings({"out": out, "patients": 1}))
    assert "Did you mean patients?" in refusal(lambda: demo.run(demo.demo_settings({"out": out, "patiens": 4})))
    assert not out.exists()


def test_the_outcome_is_read_from_the_scores(tmp_path: Path) -> None:
    import pandas as pd

    from fewlabel.pipelines.summary import heads, outcome, verdict

    assert outcome(tmp_path) == []
    assert verdict(tmp_path) == ""
    rows = [
        {
            "arm": arm, "case": f"c{number}", "subject": f"s{number}", "class": index, "class_name": name,
            "dice": dice + 0.01 * number, "hd95_mm": far + number, "assd_mm": 1.0, "missed": False, "invented": False,
            "reference_ml": 1.0, "stray": 0, "stray_ml": 0.0, "removed": 0, "removed_ml": 0.0, "dice_before": dice,
        }
        for arm, dice, far in (("model", 0.7, 4.0), ("control", 0.5, 9.5))
        for number in range(6)
        for index, name in ((1, "cavity"), (2, "wall"))
    ]  # fmt: skip
    summary = summarise(pd.DataFrame(rows), {1: "cavity", 2: "wall"}, resamples=50)
    scores = tmp_path / "scores"
    write_json(scores / "summary.json", json.loads(json.dumps(summary)))
    finish_artifact(scores, "scores", ["summary.json"])
    table = outcome(tmp_path)
    assert [row[0] for row in table] == ["cavity", "wall", "mean"]
    assert table[2] == ["mean", "0.725", "0.525", "+0.200 (+0.200 to +0.200)", "6.5", "12.0"]
    assert heads(tmp_path) == ["structure", "Dice", "control", "gain (interval)", "HD95 mm", "control"]
    assert verdict(tmp_path).splitlines() == [
        "pre-training against scratch:",
        "  Dice +0.200 (+0.200 to +0.200), p = 0.0312: gain outside the noise",
        "  HD95 -5.5 (-5.5 to -5.5) mm, p = 0.0312: gain outside the noise",
    ]


def test_the_table_has_room_in_80_columns_and_only_what_was_scored(tmp_path: Path, monkeypatch) -> None:
    from fewlabel.cli.terminal_output import stdout, table
    from fewlabel.pipelines.summary import heads, outcome

    def interval(mean: float | None, half: float) -> dict[str, Any]:
        ends = (None, None) if mean is None else (mean - half, mean + half)
        return {"mean": mean, "low": ends[0], "high": ends[1]}

    def entry(dice: float, far: float | None) -> dict[str, Any]:
        return {"name": "right ventricle", "dice": interval(dice, 0.1), "hd95_mm": interval(far, 5)}

    def written(arms: dict[str, Any], gain: dict[str, Any] | None) -> None:
        write_json(tmp_path / "scores" / "summary.json", {"arms": arms, "gain": gain})
        finish_artifact(tmp_path / "scores", "scores", ["summary.json"])

    def arm(dice: float, far: float | None) -> dict[str, Any]:
        return {"classes": {"1": entry(dice, far)}, "mean": entry(dice, far)}

    written({"model": arm(0.712, 108.1), "control": arm(0.65, 212.3)}, arm(-0.062, -104.2))
    monkeypatch.setenv("COLUMNS", "80")
    console = stdout()
    with console.capture() as shown:
        console.print(table(outcome(tmp_path), heads(tmp_path)))
    lines = shown.get().splitlines()
    assert [line.split() for line in lines] == [
        ["structure", "Dice", "control", "gain", "(interval)", "HD95", "mm", "control"],
        *(
            [*name, "0.712", "0.650", "-0.062", "(-0.162", "to", "+0.038)", "108.1", "212.3"]
            for name in (["right", "ventricle"], ["mean"])
        ),
    ]
    written({"model": arm(0.712, None)}, None)
    assert (heads(tmp_path), outcome(tmp_path)[1]) == (["structure", "Dice"], ["mean", "0.712"])
    written({"model": arm(0.712, 8.0)}, None)
    assert (heads(tmp_path), outcome(tmp_path)[1]) == (["structure", "Dice", "HD95 mm"], ["mean", "0.712", "8.0"])


def test_the_outcome_names_what_was_compared(tmp_path: Path) -> None:
    from fewlabel.pipelines.summary import verdict

    dice = {"mean": 0.1, "low": None, "high": None, "p": 0.5, "verdict": "gain inside the noise"}
    known = {
        "model": {"regime": "mean_teacher", "initialisation": "scratch"},
        "control": {"regime": "supervised", "initialisation": "scratch"},
    }
    scores = tmp_path / "scores"
    write_json(
        scores / "summary.json", {"gain": {"mean": {"dice": dice, "hd95_mm": {"mean": None}}}, "segmenters": known}
    )
    finish_artifact(scores, "scores", ["summary.json"])
    assert verdict(tmp_path) == "mean_teacher against supervised:\n  Dice +0.100, p = 0.5: gain inside the noise"


def test_words_for_pre_training_switch_it_on_where_no_recipe_decides(tmp_path: Path) -> None:
    def made(**values: Any) -> train.TrainSettings:
        return train.train_settings({"data": tmp_path, "out": tmp_path / "run", **values})

    assert not made(seed=1, finetune={"steps": 3}).pretrains
    assert made(pretrain={"steps": 3}).pretrains
    assert made(method="gcl").pretrains
    told = refusal(lambda: made(pretraining=False, pretrain={"steps": 3}, method="gcl"))
    assert "pretrain.steps, method have no effect without pre-training, which pretraining=false turns off" in told
    assert made(pretrain_share=0.5).pretrains
    assert "pretrain_share has no effect without" in refusal(lambda: made(pretraining=False, pretrain_share=0.5))


def test_words_for_pre_training_are_refused_where_a_recipe_or_patches_leave_it_out(tmp_path: Path) -> None:
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("pretraining: false\nfinetune: {steps: 3}\n")

    def made(recipe: Any = None, **values: Any) -> train.TrainSettings:
        return train.train_settings({"data": tmp_path, "out": tmp_path / "run", **values}, recipe)

    assert not made(recipe).pretrains
    told = refusal(lambda: made(recipe, pretrain={"steps": 3}))
    assert "pretraining: pretrain.steps has no effect without pre-training" in told
    assert "Leave it out, or give pretraining=true" in told
    assert made(recipe, pretrain={"steps": 3}, pretraining=True).pretrains
    told = refusal(lambda: made(finetune={"patch": [16, 32, 32], "regime": "supervised"}, pretrain={"steps": 3}))
    assert "finetune.patch: pretrain.steps has no effect without pre-training" in told
    # Words that other stages take too are theirs.
    assert not made(finetune={"patch": [16, 32, 32], "regime": "supervised"}, batch=2).pretrains


def test_a_share_of_no_budget_is_refused(tmp_path: Path) -> None:
    def made(**values: Any) -> train.TrainSettings:
        return train.train_settings(
            {"data": tmp_path, "out": tmp_path / "run", "pretrain_share": 0.5, "pretraining": True, **values}, "demo"
        )

    assert "pretrain_share: is a share of a budget, and there is none" in refusal(made)
    assert "pretrain_share" in refusal(lambda: made(budget="off"))
    assert made(budget="20m").pretrain_share == 0.5


def test_a_setting_of_train_itself_is_known_where_one_is_written_wrong(tmp_path: Path) -> None:
    values = {"data": tmp_path, "out": tmp_path / "run"}
    assert "Did you mean budget?" in refusal(lambda: train.train_settings({**values, "budgte": "3m"}))
    assert "pretraining" in refusal(lambda: train.train_settings({**values, "zzzz": "3m"}))
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("pretraning: false\n")
    assert "Did you mean pretraining?" in refusal(lambda: train.train_settings(values, recipe))


def test_resume_needs_no_other_word(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Stages.instead(monkeypatch)
    made.fail = "evaluate"
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("finetune: {regime: supervised, batch: 3}\n")
    values = {"data": tmp_path / "raw", "out": tmp_path / "run", "budget": "off", "finetune": {"steps": 7}}
    with pytest.raises(DataError, match="evaluate failed"):
        train.run(train.train_settings(values, recipe))
    made.fail = ""
    again = train.train_settings({"out": str(tmp_path / "run"), "resume": True, "device": "cpu"})
    train.run(again)
    first, second = (settings for name, settings in made.asked if name == "finetune")
    assert (second.steps, second.batch, second.device) == (7, 3, "cpu")
    assert first.model_copy(update={"resume": True, "device": "cpu"}) == second
    # And once more, from what the second call left.
    assert train.train_settings({"out": tmp_path / "run", "resume": True}).finetune["steps"] == 7


def test_resume_of_nothing_begins_nothing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="holds no run that could be continued"):
        train.train_settings({"out": tmp_path / "run", "resume": True})
    (tmp_path / "old").mkdir()
    write_json(tmp_path / "old" / "run.json", {"kind": "run", "stages": {"prepare": {}}})
    with pytest.raises(SettingsError, match="does not say what was asked for"):
        train.train_settings({"out": tmp_path / "old", "resume": True})
    assert not (tmp_path / "run").exists()


def test_the_end_says_which_is_better_which_is_used_and_what_is_of_no_use(tmp_path: Path) -> None:
    from fewlabel.pipelines.summary import closing_lines

    assert closing_lines(tmp_path) == []
    expected = {"mean": {"dice": {"mean": 0.04, "low": 0.0}}}
    for folder in ("segmenter", "segmenter-control"):
        write_json(tmp_path / folder / "segmenter.json", {"expected": expected})
    reason = "mean Dice 0.010, control 0.040, by left-out patients"
    write_json(tmp_path / "run.json", {"use": {"arm": "control", "by": "left-out patients", "reason": reason}})
    assert closing_lines(tmp_path) == [
        "Expect a Dice of about 0.04 on a new patient (lowest left out 0.00).",
        f"The control is the better one ({reason}): predict on the run folder uses the control.",
        "With a mean Dice of 0.04 the network finds next to nothing: it is of no use, whatever its gain.",
    ]
    write_json(tmp_path / "run.json", {"use": {"arm": "model", "by": None, "reason": "one patient tells nothing"}})
    assert "cannot be told" in closing_lines(tmp_path)[1]
