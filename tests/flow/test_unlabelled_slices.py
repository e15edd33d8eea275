"""Which slices a semi-supervised regime takes without labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.data.store import PreparedStore
from fewlabel.stages import finetune
from fewlabel.stages.finetune import trainer
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from kit.stores import make_store, resealed
from kit.tiny import finetune_settings

REGIMES = "fewlabel.regimes"
SEMI = [name for name in plugin_names(REGIMES) if load_plugin(REGIMES, name).uses_unlabelled]
PATIENTS = ["patient001", "patient002", "patient003", "patient004"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("streams") / "prepared")


def taken(fit: SegmentationTrainer, steps: int = 20) -> list[int]:
    """Slices of the unlabelled stream, as its batches show them."""
    return sorted({int(index) for step in range(steps) for index in fit.loader.batch(step).unlabelled_slices})


def slices_of(store: Path, patients: Sequence[str]) -> list[int]:
    return sorted(PreparedStore(store).slices_of(patients).tolist())


def test_they_are_those_of_the_training_part_beside_the_draw(store, tmp_path, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(trainer, "say", told.append)
    settings = finetune_settings(store, tmp_path / "one", regime="mean_teacher", labelled=1, draw=1, steps=20)
    assert taken(finetune.begin(settings)) == slices_of(store, [PATIENTS[0], *PATIENTS[2:]])
    assert told == []


def test_where_every_patient_is_labelled_theirs_serve_with_masks_unread(store, tmp_path, monkeypatch):
    told: list[str] = []
    monkeypatch.setattr(trainer, "say", told.append)
    fit = finetune.begin(finetune_settings(store, tmp_path / "all", regime="mean_teacher"))
    assert taken(fit) == slices_of(store, PATIENTS)
    assert told == [
        "No training slice is left without labels: mean_teacher takes those of the labelled patients, masks unread."
    ]


@pytest.mark.parametrize("regime", SEMI)
def test_every_regime_runs_where_every_patient_is_labelled(store, tmp_path, regime):
    out = finetune.run(finetune_settings(store, tmp_path / regime, regime=regime, steps=2, validation="none"))
    assert json.loads((out / "segmenter.json").read_text())["regime"] == regime


@pytest.fixture(scope="module")
def sparse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every third slice of every scan is annotated; masks lie where no one may look for them, too."""
    folder = make_store(tmp_path_factory.mktemp("sparse") / "prepared", depth=9, size=(32, 32), phases=1)
    table = pd.read_parquet(folder / "slices.parquet")
    table["labelled"] = table["z"] % 3 == 1
    table.to_parquet(folder / "slices.parquet")
    return resealed(folder)


@pytest.mark.parametrize("regime", ["mean_teacher", "fixmatch"])
def test_slices_that_nobody_annotated_in_labelled_scans_serve_too(sparse, tmp_path, monkeypatch, regime):
    told: list[str] = []
    monkeypatch.setattr(trainer, "say", told.append)
    fit = finetune.begin(finetune_settings(sparse, tmp_path / "sparse", regime=regime, steps=20))
    annotated = sorted(PreparedStore(sparse).slices_of(PATIENTS, labelled=True).tolist())
    assert taken(fit) == sorted(set(slices_of(sparse, PATIENTS)) - set(annotated))
    assert sorted({int(index) for step in range(20) for index in fit.loader.batch(step).slices}) == annotated
    assert told == []


def test_beside_other_patients_too(sparse, tmp_path):
    settings = finetune_settings(sparse, tmp_path / "one", regime="mean_teacher", labelled=1, draw=1, steps=20)
    annotated = PreparedStore(sparse).slices_of([PATIENTS[1]], labelled=True).tolist()
    assert taken(finetune.begin(settings), 40) == sorted(set(slices_of(sparse, PATIENTS)) - set(annotated))


def test_none_of_a_patient_who_is_left_out_serves(sparse, tmp_path, monkeypatch):
    seen: dict[str, list[int]] = {}
    made = SegmentationTrainer.__init__

    def init(self, *words, **options):
        seen[options["folder"].name] = options["unlabelled"].tolist()
        made(self, *words, **options)

    monkeypatch.setattr(SegmentationTrainer, "__init__", init)
    over = {"regime": "mean_teacher", "subjects": PATIENTS[:2], "steps": 1, "validation": "none", "expect": "always"}
    finetune.run(finetune_settings(sparse, tmp_path / "out", **over))
    annotated = set(PreparedStore(sparse).slices_of(PATIENTS[:2], labelled=True).tolist())
    for name in PATIENTS[:2]:
        others = [patient for patient in PATIENTS if patient != name]
        assert set(seen[f"left-out-{name}"]) == set(slices_of(sparse, others)) - annotated
    assert set(seen["out"]) == set(slices_of(sparse, PATIENTS)) - annotated


def test_patches_of_partly_annotated_scans_are_of_whole_scans_in_both_streams(sparse, tmp_path):
    """No mask but those of annotated slices is shown, and no volume is cut where nobody annotated."""
    settings = finetune_settings(sparse, tmp_path / "v", regime="mean_teacher", patch=[4, 32, 32], steps=10, batch=2)
    loader = finetune.begin(settings).loader
    prepared = PreparedStore(sparse)
    whole = [(case.start, case.stop) for case in prepared.cases if case.subject in PATIENTS]
    for stream in (loader.labelled, loader.unlabelled):
        assert [(run.start, run.stop) for run in stream.runs] == whole
    for step in range(10):
        batch = loader.batch(step)
        assert bool((batch.images.abs().amax(dim=(1, 3, 4)) > 0).all())
        known = (batch.labels != 255).flatten(2).any(dim=2)
        for first, levels in zip(batch.slices.tolist(), known.tolist(), strict=True):
            annotated = prepared.slices["labelled"].iloc[first : first + 4].tolist()
            assert levels == annotated
            assert any(annotated)
