"""A store of made-up slices has all that a training asks of the real one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewlabel.data.store import UNLABELLED, PreparedStore
from fewlabel.pipelines import pixel_grid_for_budget, time_estimate
from fewlabel.pipelines._synthetic_store import DEPTH, write_stand_in
from fewlabel.pipelines._train_settings import plan, train_settings
from fewlabel.pipelines.step_timing import measure
from fewlabel.stages.prepare import CheckReport
from kit.pipeline import whole_chain
from kit.scans import nnunet_folder
from kit.tiny import checked

__all__ = ["whole_chain"]
pytestmark = pytest.mark.usefixtures("whole_chain")
WORDS: dict[str, Any] = {
    "network": {"width": 4, "depth": 3},
    "device": "cpu",
    "pretraining": True,
    "pretrain": {"batch": 8},
    "finetune": {"batch": 4, "view": None},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stand-in") / "raw"
    return nnunet_folder(root, tuple("abcdefgh"), labelled=tuple("abcdef"), shape=(7, 40, 36))


@pytest.fixture(scope="module")
def report(data: Path) -> CheckReport:
    return checked(data)


@pytest.fixture(scope="module")
def store(report: CheckReport, tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    assert report.plan is not None
    assert report.split is not None
    assert report.catalog is not None
    folder = tmp_path_factory.mktemp("made") / "prepared"
    chosen = replace(report.plan, size=(32, 16), spacing=(1.5, 2.0))
    return PreparedStore(write_stand_in(folder, report.catalog, report.facts, report.split, chosen))


def test_it_has_the_subjects_labels_and_parts_of_the_data(store: PreparedStore, report: CheckReport) -> None:
    assert report.catalog is not None
    assert [case.id for case in store.cases] == [case.id for case in report.catalog.cases]
    assert store.split == report.split
    assert store.images.shape == (8 * DEPTH, 1, 32, 16)
    assert store.plan["spacing"] == [1.5, 2.0]
    assert store.meta_labels == {"patient": 8, "position": 4}
    labelled = store.slices_of(list("abcdef"), labelled=True)
    assert len(labelled) == 6 * DEPTH
    assert set(np.unique(store.labels[labelled])) == {0, 1}
    assert set(np.unique(store.labels[np.setdiff1d(np.arange(8 * DEPTH), labelled)])) == {UNLABELLED}
    assert 0 <= store.images.min() < store.images.max() <= 1


def test_steps_can_be_taken_on_it(store: PreparedStore, data: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(time_estimate, "SECONDS", 0.0)
    plans = plan(train_settings({"data": data, "out": tmp_path / "run", **WORDS}))
    there = {
        name: values.model_copy(update={"data": store.folder}) if name in ("pretrain", "finetune") else values
        for name, values in plans.items()
    }
    found = measure(there, store, trains=True, evaluates=False)
    assert found.pretrain is not None
    assert found.pretrain.step > 0
    assert [cost.name for cost in found.arms] == ["finetune", "control"]
    assert found.evaluation is None


def test_the_grid_is_chosen_by_real_steps_on_it(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a time that is never enough the coarsest grid is taken, with one that always is the finest."""
    monkeypatch.setattr(time_estimate, "SECONDS", 0.0)
    monkeypatch.setattr(pixel_grid_for_budget.time_budget_arithmetic, "PIXELS_THICK", 1.0)
    plans = plan(train_settings({"data": data, "out": tmp_path / "run", **WORDS}))
    tight = pixel_grid_for_budget.choose_grid(plans, 0.0, share=0.25, given={})
    ample = pixel_grid_for_budget.choose_grid(plans, 1e9, share=0.25, given={})
    assert tight is not None
    assert ample is not None
    assert ample.size == (48, 48)
    assert ample.spacing == (1.0, 1.0)
    assert tight.size == (32, 32)
    assert tight.spacing[0] > 1
    # What a stage would refuse is told by that stage, once the scans are prepared.
    wrong = plan(train_settings({"data": data, "out": tmp_path / "run", **WORDS, "labelled": 99}))
    assert pixel_grid_for_budget.choose_grid(wrong, 0.0, share=0.25, given={}) == ample
