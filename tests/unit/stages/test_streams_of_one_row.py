"""Batch normalisation of one row whose smallest map has one cell is told before any work, wherever it would be met."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.pipelines._train_settings import plan
from fewlabel.pipelines.train import train_settings
from fewlabel.stages import finetune
from fewlabel.stages.finetune.segmenter_run import SegmenterRun
from kit.changed import encoder_that_saw
from kit.stores import make_store
from kit.tiny import finetune_settings

#: On 8x8 slices its smallest map has one cell.
NETWORK = {"width": 4, "depth": 4}
VOLUME = {"patch": [8, 8, 8], "network": {**NETWORK, "ndim": 3}}
TEACHER = {"regime": "mean_teacher", "labelled": 1}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("lone") / "prepared", subjects=5, depth=3, size=(8, 8), phases=1)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("large") / "prepared", subjects=5, depth=3, size=(16, 16), phases=1)


def refused(data: Path, out: Path, **over: Any) -> list[str]:
    """Keys of the faults; none may be of anything else, and nothing is written."""
    with pytest.raises(SettingsError) as caught:
        finetune.run(finetune_settings(data, out, **{"network": NETWORK, **over}))
    assert all("must be 2 or more for batch normalisation" in fault.problem for fault in caught.value.faults)
    assert not out.exists()
    return [str(fault.where) for fault in caught.value.faults]


def takes_steps(data: Path, out: Path, **over: Any) -> None:
    trainer = finetune.begin(finetune_settings(data, out, **{"network": NETWORK, "steps": 3, **over}))
    trainer.train_mode()
    trainer.loop(0, 3).run(trainer.step, 0)


@pytest.mark.parametrize(
    ("over", "keys"),
    [
        ({"batch": 1}, ["batch"]),
        ({"batch": 1, **TEACHER}, ["batch"]),
        ({"batch": 2, "unlabelled_batch": 1, **TEACHER}, ["unlabelled_batch"]),
        ({"batch": 1, "unlabelled_batch": 1, **TEACHER}, ["batch", "unlabelled_batch"]),
        ({"batch": 1, **VOLUME}, ["batch"]),
        ({"batch": 2, "unlabelled_batch": 1, **TEACHER, **VOLUME}, ["unlabelled_batch"]),
    ],
)
def test_a_stream_of_one_row_is_told_by_its_setting(
    store: Path, tmp_path: Path, over: dict[str, Any], keys: list[str]
) -> None:
    assert refused(store, tmp_path / "out", **over) == keys


@pytest.mark.parametrize(
    "over",
    [
        {"batch": 2},
        # It has no second stream.
        {"batch": 2, "unlabelled_batch": 1},
        {"batch": 2, "unlabelled_batch": 2, **TEACHER},
        {"batch": 1, "network": {**NETWORK, "norm": "group"}},
        {"batch": 1, "network": {"width": 4, "depth": 3}},
        {"batch": 1, "network": {"width": 4, "depth": 3}, **TEACHER},
        {"batch": 2, **VOLUME},
        {"batch": 1, **VOLUME, "network": {"width": 4, "depth": 3, "ndim": 3}},
    ],
)
def test_all_else_takes_steps(store: Path, tmp_path: Path, over: dict[str, Any]) -> None:
    takes_steps(store, tmp_path / "out", **over)


def test_of_views_their_own_size_counts(large: Path, tmp_path: Path) -> None:
    assert refused(large, tmp_path / "out", batch=1, view=[8, 8]) == ["batch"]
    takes_steps(large, tmp_path / "whole", batch=1)
    takes_steps(large, tmp_path / "wide", batch=1, view=[8, 16])
    takes_steps(large, tmp_path / "two", batch=2, view=[8, 8])


def test_an_encoder_that_stays_as_it_is_does_without_but_not_its_control(store: Path, tmp_path: Path) -> None:
    encoder = encoder_that_saw(tmp_path / "encoder", store, (), depth=4)
    given = {"encoder": encoder, "batch": 1, "network": {}}
    for regime in ("supervised", "arco"):
        takes_steps(store, tmp_path / regime, **given, mode="frozen", regime=regime, labelled=1)
    for over in ({"mode": "frozen", "control": True}, {"mode": "warm"}, {"mode": "scratch"}):
        assert refused(store, tmp_path / "out", **given, **over) == ["batch"]


def test_train_tells_it_before_scans_are_prepared(tmp_path: Path) -> None:
    told = {
        "data": tmp_path / "raw",
        "out": tmp_path / "out",
        "pretraining": False,
        "prepare": {"size": [8, 8]},
        "finetune": {"network": NETWORK, "batch": 1, "regime": {"name": "supervised"}},
    }
    with pytest.raises(SettingsError) as caught:
        plan(train_settings(told))
    assert [str(fault.where) for fault in caught.value.faults] == ["finetune.batch"]


def test_a_segmenter_run_is_refused_as_well(store: Path, tmp_path: Path) -> None:
    settings = finetune_settings(store, tmp_path / "o", network=NETWORK, batch=1)
    with pytest.raises(SettingsError, match="batch normalisation"):
        SegmenterRun(settings, tmp_path / "o", "scratch")
