"""Which slices a semi-supervised regime takes without labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.data.store import PreparedStore
from fewlabel.stages import finetune
from fewlabel.stages.finetune import trainer
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from kit.stores import make_store
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
        "No training scan is left without labels: mean_teacher takes those of the labelled patients, masks unread."
    ]


@pytest.mark.parametrize("regime", SEMI)
def test_every_regime_runs_where_every_patient_is_labelled(store, tmp_path, regime):
    out = finetune.run(finetune_settings(store, tmp_path / regime, regime=regime, steps=2, validation="none"))
    assert json.loads((out / "segmenter.json").read_text())["regime"] == regime
