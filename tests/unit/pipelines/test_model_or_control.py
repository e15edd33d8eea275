"""The better of model and control: by validation or left-out patients, never by test scans."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import ArtifactError
from fewlabel.pipelines.model_or_control import MARGIN, better_of, choice_line, surprise_line
from fewlabel.stages._model_or_control import choice_of, find_segmenter, segmenter_in_use
from kit.pipeline import Stages, go

THREE = {"labelled_subjects": ["a", "b", "c"]}


def arm(
    selection: str = "none", validation: float | None = None, expected: float | None = None, **facts: Any
) -> dict[str, Any]:
    left_out = None if expected is None else {"mean": {"dice": {"mean": expected}}}
    return {**THREE, "selection": selection, "validation_dice": validation, "expected": left_out, **facts}


def test_held_out_patients_decide_before_left_out_ones() -> None:
    found = better_of(arm("held_out", 0.6, 0.7), arm("held_out", 0.65, 0.5))
    assert (found["arm"], found["by"], found["margin"]) == ("control", "validation", MARGIN)
    assert found["dice"] == {"model": 0.6, "control": 0.65}
    assert found["reason"] == "mean Dice 0.600, control 0.650, by validation"


def test_left_out_patients_decide_where_nobody_was_held_out() -> None:
    found = better_of(arm(expected=0.6), arm(expected=0.7))
    assert (found["arm"], found["by"]) == ("control", "left-out patients")
    assert better_of(arm(expected=0.7), arm(expected=0.6))["arm"] == "model"
    # What they reached at the chosen length serves where they were not scored.
    found = better_of(arm("leave_one_out", 0.5), arm("leave_one_out", 0.6))
    assert (found["arm"], found["by"]) == ("control", "left-out patients")


def test_a_control_that_is_hardly_better_is_not_used() -> None:
    for ahead, used in ((-0.1, "model"), (0.0, "model"), (0.0049, "model"), (0.0051, "control")):
        found = better_of(arm("held_out", 0.5), arm("held_out", 0.5 + ahead))
        assert found["arm"] == used, ahead
        assert ("a control must be better by more than 0.005" in found["reason"]) == (ahead == 0.0049)


@pytest.mark.parametrize(
    ("model", "control", "told"),
    [
        (arm(), None, "there is no control"),
        (arm(labelled_subjects=["a"]), arm(labelled_subjects=["a"]), "one labelled patient nothing can tell"),
        (arm(), arm(), "nothing but test scans could tell"),
        (arm("held_out", 0.5), arm("none"), "nothing but test scans could tell"),
        (arm("held_out", 0.5), arm("leave_one_out", 0.9), "nothing but test scans could tell"),
        (arm(expected=0.5), arm(), "nothing but test scans could tell"),
        ({}, {}, "nothing but test scans could tell"),
    ],
)
def test_where_nothing_tells_the_model_is_used(model: Any, control: Any, told: str) -> None:
    found = better_of(model, control)
    assert (found["arm"], found["by"], found["dice"]) == ("model", None, {})
    assert told in found["reason"]
    assert choice_line(found).startswith("predict on the run folder uses the model: ")


def scored(folder: Path, mean: float, verdict: str) -> Path:
    folder.mkdir(exist_ok=True)
    write_json(folder / "summary.json", {"gain": {"mean": {"dice": {"mean": mean, "verdict": verdict}}}})
    return folder


def test_test_scans_that_say_otherwise_are_told_and_change_nothing(tmp_path: Path) -> None:
    use = {"arm": "model"}
    line = surprise_line(use, scored(tmp_path / "s", -0.05, "loss outside the noise"))
    assert line.startswith("On the test scans the control is ahead beyond the noise (Dice 0.050 higher).")
    assert "test scans choose nothing" in line
    assert "name segmenter-control" in line
    assert surprise_line({"arm": "control"}, tmp_path / "s") == ""
    assert surprise_line(use, scored(tmp_path / "s", -0.05, "loss inside the noise")) == ""
    assert surprise_line(use, scored(tmp_path / "s", 0.05, "gain outside the noise")) == ""
    assert "the model is ahead" in surprise_line({"arm": "control"}, tmp_path / "s")
    write_json(tmp_path / "s" / "summary.json", {"gain": None})
    assert surprise_line(use, tmp_path / "s") == ""
    assert surprise_line(use, tmp_path / "nowhere") == ""


class Trained(Stages):
    """Stages whose fine-tuning leaves a model and a control with facts, and whose evaluation a loss."""

    facts: tuple[dict[str, Any], dict[str, Any]]

    def __call__(self, name: str, settings: Any, **_: Any) -> Path:
        out = Path(settings.out)
        if name == "finetune" and not out.exists():
            self.asked.append((name, settings))
            for folder, facts in zip((out, out.with_name(f"{out.name}-control")), self.facts, strict=True):
                write_json(folder / "segmenter.json", facts)
                finish_artifact(folder, "segmenter", ["segmenter.json"])
            return out
        if name == "evaluate" and not out.exists():
            self.asked.append((name, settings))
            scored(out, -0.05, "loss outside the noise")
            finish_artifact(out, "scores", ["summary.json"])
            return out
        return super().__call__(name, settings)


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Trained:
    made = Trained.instead(monkeypatch)
    assert isinstance(made, Trained)
    made.facts = (arm("held_out", 0.5), arm("held_out", 0.6))
    return made


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for module in ("pipelines.train", "stages._model_or_control"):
        monkeypatch.setattr(f"fewlabel.{module}.say", lines.append)
    return lines


def test_train_records_the_choice_and_predict_goes_by_it(stages: Trained, said: list[str], tmp_path: Path) -> None:
    out = go(tmp_path / "run")
    use = read_json(out / "run.json")["use"]
    assert (use["arm"], use["by"], use["dice"]) == ("control", "validation", {"model": 0.5, "control": 0.6})
    assert set(use["content"]) == {"model", "control"}
    told = [line for line in said if "predict on the run folder" in line]
    # The test scans agree with it, so nothing more is said.
    assert told == [
        "The control is better (mean Dice 0.500, control 0.600, by validation): predict on the run folder uses the "
        "control."
    ]
    said.clear()
    assert find_segmenter(out).folder == out / "segmenter-control"
    assert said == [
        "The control is used, which is better: mean Dice 0.500, control 0.600, by validation. "
        f"The model is {out / 'segmenter'}."
    ]
    said.clear()
    assert find_segmenter(out / "segmenter").folder == out / "segmenter"
    assert said == []
    go(out, resume=True)
    assert read_json(out / "run.json")["use"] == use


def test_test_scans_never_lead_it(stages: Trained, said: list[str], tmp_path: Path) -> None:
    stages.facts = (arm(labelled_subjects=["a"]), arm(labelled_subjects=["a"]))
    out = go(tmp_path / "run")
    assert any("the control is ahead beyond the noise" in line for line in said)
    said.clear()
    assert find_segmenter(out).folder == out / "segmenter"
    assert said == ["The model is used: with one labelled patient nothing can tell which is better."]


def test_a_choice_is_of_the_weights_it_was_made_of(stages: Trained, tmp_path: Path) -> None:
    out = go(tmp_path / "run")
    for name in ("segmenter-control", "segmenter"):
        kept = read_json(out / name / "segmenter.json")
        write_json(out / name / "segmenter.json", {"steps": 3})
        finish_artifact(out / name, "segmenter", ["segmenter.json"])
        folder, told = segmenter_in_use(out)
        assert (folder, "but of other weights" in told) == (out / "segmenter", True)
        write_json(out / name / "segmenter.json", kept)
        finish_artifact(out / name, "segmenter", ["segmenter.json"])
        assert segmenter_in_use(out)[0] == out / "segmenter-control"


def test_the_reason_of_a_choice_is_not_told_of_other_weights(stages: Trained, tmp_path: Path) -> None:
    stages.facts = (arm(labelled_subjects=["a"]), arm(labelled_subjects=["a"]))
    out = go(tmp_path / "run")
    assert choice_of(out)["arm"] == "model"
    assert segmenter_in_use(out)[1].startswith("The model is used: with one labelled patient")
    write_json(out / "segmenter" / "segmenter.json", {"steps": 3})
    finish_artifact(out / "segmenter", "segmenter", ["segmenter.json"])
    assert segmenter_in_use(out) == (
        out / "segmenter",
        "The model is used: run.json chose the model, but of other weights than lie there now.",
    )
    # Nor does a report of what lies there tell of it.
    assert choice_of(out) == {}


def test_a_run_of_before_uses_its_model(tmp_path: Path) -> None:
    for content in ({}, {"use": None}, {"use": {"arm": "other"}}, []):
        write_json(tmp_path / "run.json", content)
        assert segmenter_in_use(tmp_path) == (tmp_path / "segmenter", "")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"run\.json"):
        segmenter_in_use(tmp_path)


def test_without_labels_there_is_no_choice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Stages.instead(monkeypatch, unlabelled=[f"patient{number:03d}" for number in range(1, 5)])
    assert read_json(go(tmp_path / "run") / "run.json")["use"] is None
