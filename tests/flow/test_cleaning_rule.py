"""Post-processing from fine-tuning, where labelled masks decide it, to validation, evaluation and prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest

from fewlabel.core.artifact.files import read_json
from fewlabel.data.store import PreparedStore
from fewlabel.engine import ensemble
from fewlabel.engine.record import read_record
from fewlabel.scoring.component_rule import ComponentRule
from fewlabel.stages import evaluate, finetune, predict, report
from fewlabel.stages._cleaning_rule import decided_rule, prepared_voxel
from fewlabel.stages.finetune import trainer
from fewlabel.stages.report import predicted_scans
from kit.scans import write_scan
from kit.segmenters import (
    LABELS,
    SPACING,
    as_slabs,
    bright_is_core,
    disc_plan,
    make_segmenter,
    nested_discs,
    prepared_discs,
)
from kit.stores import make_store
from kit.tiny import finetune_settings

#: What discs decide: core within ring, one piece each.
RULE = {
    "foreground": True,
    "largest": [1, 2],
    "least_mm3": {},
    "contacts": {"1": [0.0, 0.0, 1.0], "2": [0.6875, 0.3125, 0.0]},
    "always": [1, 2],
}
VOXEL = float(np.prod(SPACING))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    folder = tmp_path_factory.mktemp("postprocess")
    return PreparedStore(prepared_discs(folder, train=("s1", "s2", "s6"), test=("s3", "s4")))


def run(store: PreparedStore, out: Path, **over: Any) -> dict[str, Any]:
    values = {"subjects": ["s1", "s2"], "steps": 1, "validation": "none", **over}
    finetune.run(finetune_settings(store.folder, out, **values))
    facts: dict[str, Any] = read_json(out / "segmenter.json")
    return facts


def answers(store: PreparedStore, spoil: Any = lambda mask: mask) -> Any:
    """A network that knows the prepared labels, spoilt."""
    known = [(store.images[case.start : case.stop], store.labels[case.start : case.stop]) for case in store.cases]

    def predict_volume(network: Any, array: np.ndarray, **_: Any) -> np.ndarray:
        mask = next(mask for images, mask in known if np.array_equal(images.swapaxes(0, 1), array.astype(np.float16)))
        return (spoil(np.array(mask))[None] == np.arange(3)[:, None, None, None]).astype(np.float32)

    return predict_volume


def with_specks(mask: np.ndarray) -> np.ndarray:
    """Two specks of core in a corner, of 4 and 2 voxels, and one of 3 voxels of ring elsewhere."""
    mask[0, 4:6, 6:8] = 1
    mask[4, 4:6, 6] = 1
    mask[5, 25, 22:25] = 2
    return mask


def test_labelled_masks_decide_and_no_others(store, tmp_path):
    """A mask of another training patient, in two pieces, has no say unless that patient is labelled."""
    assert run(store, tmp_path / "one")["postprocess"] == RULE
    assert run(store, tmp_path / "off", postprocess=False)["postprocess"] is None
    cases = {case.subject: case for case in store.cases}
    assert prepared_voxel(store, cases["s6"]) == pytest.approx(VOXEL)
    labels = np.array(store.labels)
    torn = labels[cases["s6"].start : cases["s6"].stop]
    torn[0, 2:4, 2:5] = 1
    torn[2, 24:29, 2] = 2
    other = PreparedStore(store.folder)
    vars(other)["labels"] = labels
    assert decided_rule(other, ["s1", "s2"]).record() == RULE
    found = decided_rule(other, ["s1", "s6"])
    assert found == ComponentRule(False, (), {1: pytest.approx(6 * VOXEL), 2: pytest.approx(5 * VOXEL)})


def test_masks_of_scans_that_do_not_say_how_thick_they_are_decide_no_volume(tmp_path):
    store = PreparedStore(make_store(tmp_path / "p", subjects=4, depth=3, size=(16, 16), phases=1))
    assert [prepared_voxel(store, case) for case in store.cases] == [None] * 4
    assert decided_rule(store, ["patient001"]).least_mm3 == {}


def validated(out: Path) -> list[float]:
    rows = read_record(out / "metrics.jsonl")
    return [row["validation_dice"] for row in rows if "validation_dice" in row]


def test_validation_scores_cleaned_predictions_by_a_rule_of_the_others(store, tmp_path, monkeypatch):
    asked = []
    original = trainer.SegmentationTrainer.__init__

    def watched(self, *args, **named):
        asked.append((named["validation"], named["rule"]))
        original(self, *args, **named)

    monkeypatch.setattr(trainer.SegmentationTrainer, "__init__", watched)
    monkeypatch.setattr(trainer, "predict_volume", answers(store, with_specks))
    over = {"validation": "leave_one_out", "recalibrate": "never"}
    run(store, tmp_path / "on", **over)
    assert [[case.subject for case in cases] for cases, _ in asked[:2]] == [["s1"], ["s2"]]
    assert [rule.record() for _, rule in asked] == [RULE] * 3
    curves = [read_json(tmp_path / "on" / f"left-out-{name}" / "curve.json")["curve"] for name in ("s1", "s2")]
    assert curves == [{"1": 1.0}] * 2
    run(store, tmp_path / "off", **over, postprocess=False)
    curves = [read_json(tmp_path / "off" / f"left-out-{name}" / "curve.json")["curve"] for name in ("s1", "s2")]
    assert all(0.9 < curve["1"] < 1 for curve in curves)


def scored(store: PreparedStore, segmenter: Path, out: Path, **over: Any) -> tuple[pd.DataFrame, dict[str, Any]]:
    values = {"data": store.folder, "segmenter": segmenter, "out": out, "device": "cpu", "resamples": 50, **over}
    evaluate.run(evaluate.EvaluateSettings.parse(values))
    return pd.read_parquet(out / "per_case.parquet"), read_json(out / "summary.json")


@pytest.mark.parametrize("grid", ["original", "prepared"])
def test_scores_are_of_cleaned_predictions_and_say_what_that_changed(store, tmp_path, monkeypatch, grid):
    segmenter = make_segmenter(tmp_path / "segmenter", store.plan, postprocess=RULE)
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answers(store, with_specks)))
    table, summary = scored(store, segmenter, tmp_path / "on", grid=grid)
    raw, plain = scored(store, segmenter, tmp_path / "off", grid=grid, postprocess=False)
    assert (table["dice"] == 1).all()
    assert (table["stray"] == 0).all()
    assert table["removed"].tolist() == [2, 1] * 2
    assert table["removed_ml"].tolist() == pytest.approx([6 * VOXEL / 1000, 3 * VOXEL / 1000] * 2)
    assert table["dice_before"].tolist() == raw["dice"].tolist()
    assert (raw["dice"] < 1).all()
    assert raw["stray"].tolist() == [2, 1] * 2
    assert raw["stray_ml"].tolist() == pytest.approx(table["removed_ml"].tolist())
    assert (raw["removed"] == 0).all()
    assert raw["dice_before"].tolist() == raw["dice"].tolist()
    took = summary["arms"]["model"]["mean"]["postprocess"]
    assert (took["removed"], took["scans"]) == (6, 2)
    assert took["dice_before"] == pytest.approx(plain["arms"]["model"]["mean"]["dice"]["mean"])
    assert "26 neighbours" in summary["protocol"]["postprocess"]
    assert plain["protocol"]["postprocess"] == "Left out."


@pytest.mark.parametrize("cleaned", [True, False])
def test_the_report_shows_scans_as_they_were_scored(store, tmp_path, monkeypatch, cleaned):
    segmenter = make_segmenter(tmp_path / "segmenter", store.plan, postprocess=RULE)
    (segmenter / "metrics.jsonl").write_text("")
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answers(store, with_specks)))
    scored(store, segmenter, tmp_path / "scores", postprocess=cleaned)
    shown: list[Any] = []
    original = predicted_scans.case_section
    monkeypatch.setattr(
        predicted_scans, "case_section", lambda cases, *rest: shown.extend(cases) or original(cases, *rest)
    )
    given = {"prepared": store.folder, "segmenter": segmenter, "scores": tmp_path / "scores"}
    page = report.run(report.ReportSettings.parse({**given, "out": tmp_path / "report", "device": "cpu"}))
    assert len(shown) == 2
    for case in shown:
        (found,) = case.predictions.values()
        assert np.array_equal(found, case.reference) is cleaned
    assert ("Removed by post-processing" in (page / "report.html").read_text()) is cleaned


def test_segmenters_without_a_rule_are_left_as_they_are(store, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answers(store, with_specks)))
    old = make_segmenter(tmp_path / "old", store.plan)
    none = make_segmenter(tmp_path / "none", store.plan, postprocess=None)
    tables = [scored(store, model, tmp_path / f"{model.name}-scores", grid="prepared")[0] for model in (old, none)]
    for table in tables:
        assert (table["removed"] == 0).all()
        assert table["stray"].tolist() == [2, 1, 2, 1]


def test_a_control_without_a_rule_is_not_a_fair_one_unless_none_is_used(store, tmp_path, monkeypatch):
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(answers(store)))
    model = make_segmenter(tmp_path / "model", store.plan, postprocess=RULE)
    control = make_segmenter(tmp_path / "control", store.plan, postprocess=None)
    _, summary = scored(store, model, tmp_path / "on", control=control)
    assert summary["differences"] == ["post-processing (on beside off)"]
    _, summary = scored(store, model, tmp_path / "off", control=control, postprocess=False)
    assert summary["differences"] == []


def test_masks_are_cleaned_and_probabilities_are_not(tmp_path, monkeypatch):
    """A scan with a bright speck: removed from the mask on its own grid, and told in the table."""
    monkeypatch.setattr(ensemble, "predict_slabs", as_slabs(bright_is_core))
    mask = nested_discs(1)
    spoilt = mask.copy()
    spoilt[0, 24:26, 20:22] = LABELS["core"]
    bright = (10.0 * (spoilt == LABELS["ring"]) + 20.0 * (spoilt == LABELS["core"])).astype(np.float32)
    scan = write_scan(tmp_path / "scan.nii.gz", bright, spacing=(2.0, 2.0, 9.0))
    model = make_segmenter(tmp_path / "model", disc_plan(), postprocess=RULE)

    def predicted(name: str, **over: Any) -> tuple[np.ndarray, pd.Series[Any], np.ndarray]:
        values = {"model": model, "scans": scan, "out": tmp_path / name, "device": "cpu", "probabilities": True}
        out = predict.run(predict.PredictSettings.parse({**values, **over}))
        found = np.asarray(nibabel.load(out / "scan.nii.gz").dataobj).transpose()
        chances = np.asarray(nibabel.load(out / "scan_probabilities.nii.gz").dataobj)
        report = read_json(out / "run_report.json")
        assert report["postprocess"] == (RULE if over.get("postprocess", True) else None)
        return found, pd.read_csv(out / "predictions.csv").iloc[0], chances

    clean, row, chances = predicted("on")
    np.testing.assert_array_equal(clean, mask)
    assert row["removed_ml"] == pytest.approx(4 * 36 / 1000)
    assert row["ml_core"] == pytest.approx((mask == LABELS["core"]).sum() * 36 / 1000)
    raw, row, same = predicted("off", postprocess=False)
    np.testing.assert_array_equal(raw, spoilt)
    assert row["removed_ml"] == 0
    np.testing.assert_array_equal(chances, same)
    values = np.array(list(LABELS.values()))
    np.testing.assert_array_equal(values[chances.argmax(-1)].transpose(), spoilt)
