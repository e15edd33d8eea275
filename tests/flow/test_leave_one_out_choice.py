"""What a user without test labels is told: each labelled patient by a network of the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.engine.inference import predict_volume
from fewlabel.engine.weight_files import load_segmenter
from fewlabel.scoring.component_rule import clean
from fewlabel.stages import finetune
from fewlabel.stages._cleaning_rule import prepared_voxel, rule_of
from fewlabel.stages.finetune.leave_one_out import COLUMNS, case_rows, labelled_cases
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from kit.stores import make_store
from kit.tiny import finetune_settings

NAMES = tuple(f"patient{number:03d}" for number in range(1, 9))
TWO = {"subjects": NAMES[:2], "steps": 3}
LEFT = [f"left-out-{name}" for name in NAMES[:2]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No label for validation or test."""
    folder = tmp_path_factory.mktemp("expectation") / "prepared"
    return make_store(folder, subjects=8, depth=3, size=(16, 16), unlabelled=NAMES[5:])


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[SegmentationTrainer]:
    """All fits that were run; ``given`` holds what each was made with."""
    run_fits: list[SegmentationTrainer] = []
    original, made = SegmentationTrainer.run, SegmentationTrainer.__init__

    def init(self: SegmentationTrainer, *words: Any, **options: Any) -> None:
        made(self, *words, **options)
        self.given = options  # type: ignore[attr-defined]

    def run(self: SegmentationTrainer, stop: int | None = None) -> Any:
        run_fits.append(self)
        return original(self, stop)

    monkeypatch.setattr(SegmentationTrainer, "run", run)
    monkeypatch.setattr(SegmentationTrainer, "__init__", init)
    return run_fits


def names(fits: list[SegmentationTrainer]) -> list[str]:
    return [fit.folder.name for fit in fits]


def test_each_patient_is_scored_by_a_network_that_never_saw_its_labels(
    store: Path, tmp_path: Path, fits: list[SegmentationTrainer], said: list[str]
) -> None:
    over = {**TWO, "regime": "mean_teacher", "control": True, "members": 2}
    out = finetune.run(finetune_settings(store, tmp_path / "out", **over))
    # One network for each left-out patient, whatever the members; the control has the same.
    assert names(fits) == ["out", "member-1", *LEFT, "out-control", "member-1", *LEFT]
    prepared = PreparedStore(store)
    for fit, other in zip(fits[2:4], reversed(NAMES[:2]), strict=True):
        assert fit.settings == fits[0].settings
        assert fit.given["indices"].tolist() == prepared.slices_of((other,), labelled=True).tolist()
        left = prepared.slices_of((fit.folder.name.removeprefix("left-out-"),))
        assert not set(left) & set(fit.given["unlabelled"])
        assert fit.given["unlabelled"].size > 0
        assert fit.validation == ()
    facts = read_json(out / "segmenter.json")
    expected = facts["expected"]
    assert (expected["networks"], expected["length_chosen_on_them"], list(expected["subjects"])) == (
        1,
        False,
        [*NAMES[:2]],
    )
    assert set(expected["phases"]) == {"phase 1", "phase 2"}
    table = pd.read_csv(out / "left_out.csv")
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * 2 * 3
    by_patient = table.groupby("subject")["dice"].mean()
    assert expected["mean"]["dice"]["mean"] == pytest.approx(by_patient.mean())
    assert expected["mean"]["dice"]["low"] == pytest.approx(by_patient.min())
    assert "left_out.csv" in Artifact.open(out, "segmenter").manifest.files
    assert read_json(tmp_path / "out-control" / "segmenter.json")["expected"]["networks"] == 1
    told = [line for line in said if "a Dice of about" in line or "left out in turn" in line]
    assert [line.split(" a Dice")[0] for line in told] == [
        "Expect",
        "from 2 patients left out in turn, each trained on 1: a little pessimistic.",
        "Of the control, in the same way:",
    ]


def test_the_left_out_fit_is_the_whole_run_on_the_others(store: Path, tmp_path: Path) -> None:
    # From equal shares, so that so few steps predict more than background.
    over = {"steps": 30, "recalibrate": "never", "class_prior": False}
    out = finetune.run(finetune_settings(store, tmp_path / "out", **TWO | over))
    alone = finetune.run(finetune_settings(store, tmp_path / "alone", **over, subjects=NAMES[1:2]))
    prepared, rows = PreparedStore(store), []
    network, facts = load_segmenter(alone)
    for case in labelled_cases(prepared, NAMES[:1]):
        images = prepared.images[case.start : case.stop].astype("float32").swapaxes(0, 1)
        mask = predict_volume(network.eval(), images, device="cpu").argmax(axis=0).astype("uint8")
        rows += case_rows(prepared, case, clean(mask, rule_of(facts), prepared_voxel(prepared, case))[0])
    table = pd.read_csv(out / "left_out.csv")
    found = table.loc[table["subject"] == NAMES[0], "dice"].tolist()
    assert found == pytest.approx([row["dice"] for row in rows], abs=1e-12)
    assert len(set(found)) > 2


def test_it_is_off_where_something_else_tells_or_nobody_wants_it(
    store: Path, tmp_path: Path, fits: list[SegmentationTrainer]
) -> None:
    finetune.run(finetune_settings(store, tmp_path / "never", **TWO, expect="never"))
    finetune.run(finetune_settings(store, tmp_path / "five", labelled=5, steps=1, validation="none"))
    assert names(fits) == ["never", "five"]
    assert read_json(tmp_path / "five" / "segmenter.json")["expected"] is None
    assert not (tmp_path / "never" / "left_out.csv").exists()
    fits.clear()
    finetune.run(
        finetune_settings(store, tmp_path / "five-all", labelled=5, steps=1, validation="none", expect="always")
    )
    assert len(fits) == 6


def test_with_one_patient_nothing_can_be_known_and_that_is_said(store: Path, tmp_path: Path, said: list[str]) -> None:
    out = finetune.run(finetune_settings(store, tmp_path / "out", labelled=1, steps=1))
    assert "With one labelled patient nothing can be known of its quality" in said[-1]
    assert read_json(out / "segmenter.json")["expected"] is None
    with pytest.raises(SettingsError, match="expect: needs at least two labelled patients"):
        finetune.run(finetune_settings(store, tmp_path / "other", labelled=1, expect="always"))
    assert not (tmp_path / "other").exists()
    labelled = make_store(tmp_path / "labelled", subjects=8, depth=2, size=(16, 16), phases=1)
    said.clear()
    finetune.run(finetune_settings(labelled, tmp_path / "tested", labelled=1, steps=1))
    assert not any("nothing can be known" in line for line in said)


def test_the_fits_of_the_selection_serve(store: Path, tmp_path: Path, fits: list[SegmentationTrainer]) -> None:
    over = {"subjects": NAMES[:2], "steps": 4, "validation": "leave_one_out"}
    out = finetune.run(finetune_settings(store, tmp_path / "out", **over))
    assert names(fits) == [*LEFT, "out"]
    titles = [f"finetune from scratch, without {name}" for name in NAMES[:2]]
    assert [fit.title for fit in fits] == [*titles, "finetune from scratch"]
    facts = read_json(out / "segmenter.json")
    assert facts["expected"]["length_chosen_on_them"] is True
    # The mean at the length that was chosen: every scan of a patient counts alike there too.
    assert facts["expected"]["mean"]["dice"]["mean"] == pytest.approx(facts["validation_dice"])
    assert not list(out.rglob("masks"))
    assert not list(out.rglob("*.npz"))


def test_held_out_selection_is_each_left_out_fits_own(tmp_path: Path, fits: list[SegmentationTrainer]) -> None:
    store = make_store(tmp_path / "prepared", subjects=8, depth=3, size=(16, 16), phases=1)
    over = {**TWO, "steps": 4, "validation": "held_out", "expect": "always", "members": 2}
    out = finetune.run(finetune_settings(store, tmp_path / "out", **over))
    assert [(fit.folder.name, fit.keep_best) for fit in fits[2:]] == [(name, True) for name in LEFT]
    assert {case.subject for fit in fits for case in fit.validation} == {NAMES[5]}
    best = [fit.best_dice for fit in fits[:2]]
    assert read_json(out / "segmenter.json")["validation_dice"] == pytest.approx(sum(best) / 2)


class PowerCut(BaseException):
    """Stands for the machine going away: nothing may catch it."""


@pytest.mark.parametrize("validation", ["none", "leave_one_out"])
def test_leaving_out_is_resumed_where_it_stopped(
    store: Path, tmp_path: Path, fits: list[SegmentationTrainer], validation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = {"subjects": NAMES[:2], "steps": 4, "validation": validation}
    whole = finetune.run(finetune_settings(store, tmp_path / "whole", **over))
    known = SegmentationTrainer.run
    with monkeypatch.context() as patch:

        def run(self: SegmentationTrainer, stop: int | None = None) -> Any:
            if self.folder.name == LEFT[1]:
                raise PowerCut
            return known(self, stop)

        patch.setattr(SegmentationTrainer, "run", run)
        with pytest.raises(PowerCut):
            finetune.run(finetune_settings(store, tmp_path / "cut", **over))
    fits.clear()
    cut = finetune.run(finetune_settings(store, tmp_path / "cut", **over, resume=True))
    assert names(fits) == ([LEFT[1]] if validation == "none" else [LEFT[1], "cut"])
    for name in ("segmenter.json", "left_out.csv", "segmenter.safetensors"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes(), name
    assert not list(cut.rglob("*.npz"))


def test_scores_of_another_run_are_made_again(
    store: Path, tmp_path: Path, fits: list[SegmentationTrainer], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            "fewlabel.stages.finetune.segmenter_facts.expected_summary", lambda *_: (_ for _ in ()).throw(PowerCut())
        )
        with pytest.raises(PowerCut):
            finetune.run(finetune_settings(store, tmp_path / "out", **TWO))
    path = tmp_path / "out" / LEFT[0] / "scores.json"
    write_sealed(path, {"rows": []})
    fits.clear()
    out = finetune.run(finetune_settings(store, tmp_path / "out", **TWO, resume=True))
    assert names(fits) == [LEFT[0]]
    assert len(pd.read_csv(out / "left_out.csv")) == 12
