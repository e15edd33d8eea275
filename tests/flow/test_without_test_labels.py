"""A user without test labels, from scans to report and masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.artifact.run_record import write_run
from fewlabel.data.phantom.scans import write_phantom
from fewlabel.pipelines import train
from fewlabel.stages import predict
from fewlabel.stages.report import ReportSettings
from fewlabel.stages.report import run as report
from kit.runs import make_segmenter
from kit.stores import make_store

TINY: dict[str, Any] = {
    "budget": "off", "prepare": {"size": [32, 32], "spacing": [6, 6]}, "network": {"width": 4, "depth": 3},
    "method": "simclr", "pretrain": {"steps": 2, "batch": 8}, "finetune": {"steps": 2, "batch": 4}, "device": "cpu",
    "precision": "32", "report": {"points": 40},
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two annotated patients, and three without any label."""
    home = tmp_path_factory.mktemp("bare")
    write_phantom(home / "scans", patients=5, labelled=2, test=0)
    return train.run(train.train_settings({"data": home / "scans", "out": home / "run", **TINY}))


def test_two_patients_tell_what_to_expect_and_which_network_to_use(run: Path) -> None:
    arms = {name: read_json(run / name / "segmenter.json")["expected"] for name in ("segmenter", "segmenter-control")}
    for expected in arms.values():
        assert len(expected["subjects"]) == 2
        assert set(expected["phases"]) == {"ED", "ES"}
        assert expected["mean"]["hd95_mm"]["mean"] > 0
    use = read_json(run / "run.json")["use"]
    assert use["by"] == "left-out patients"
    assert use["dice"] == {
        "model": arms["segmenter"]["mean"]["dice"]["mean"],
        "control": arms["segmenter-control"]["mean"]["dice"]["mean"],
    }
    html = (run / "report" / "report.html").read_text()
    for words in (
        "On a new patient, expect a mean Dice" if use["arm"] == "model" else "expect the control to reach a mean Dice",
        "What to expect on a new patient", "By patient and class", "Predictions on unlabelled scans",
        "6 of 6 predicted scans", f"On this run, fewlabel predict uses the {use['arm']}",
    ):  # fmt: skip
        assert words in html, words


@pytest.mark.parametrize("arm", ["model", "control"])
def test_predict_uses_what_was_chosen_and_the_model_when_it_is_named(run: Path, tmp_path: Path, arm: str) -> None:
    record = read_json(run / "run.json")
    write_run(run, {**record, "use": {**record["use"], "arm": arm}})
    scan = next((run.parent / "scans" / "images").glob("*.nii.gz"))
    found = {}
    for model in (run, run / "segmenter"):
        values = {"model": model, "scans": scan, "out": tmp_path / model.name, "device": "cpu"}
        out = predict.run(predict.PredictSettings.parse(values))
        found[model] = read_json(out / "run_report.json")["model"]["content_hash"]
    write_run(run, record)
    folder = {"model": "segmenter", "control": "segmenter-control"}[arm]
    assert found[run] == Artifact.open(run / folder).content_hash
    assert found[run / "segmenter"] == Artifact.open(run / "segmenter").content_hash


def test_one_patient_leaves_the_eye(tmp_path: Path) -> None:
    home = tmp_path / "run"
    names = [f"patient{number:03d}" for number in range(2, 6)]
    prepared = make_store(home / "prepared", subjects=5, depth=4, size=(16, 16), unlabelled=names)
    make_segmenter(home / "segmenter", prepared)
    html = (report(ReportSettings(run=home)) / "report.html").read_text()
    assert "its quality cannot be estimated from one annotated patient" in html
    assert "Predictions on unlabelled scans" in html
    assert "4 of 4 predicted scans" in html
    assert "What to expect on a new patient" not in html
    off = (report(ReportSettings(run=home, unlabelled=0)) / "report.html").read_text()
    assert "Predictions on unlabelled scans" not in off
