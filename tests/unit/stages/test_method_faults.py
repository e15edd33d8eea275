"""What a pre-training method cannot work with is told before any training, with the faults of all other stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import FewlabelError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines._stage_checks import check_plans
from fewlabel.pipelines.train import plan, train_settings
from fewlabel.stages import pretrain
from kit.stores import make_store
from kit.tiny import pretrain_settings

#: Settings of pre-training that a method refuses, and where its faults lie.
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"method": {"name": "gcl", "labels": ["scanner"], "pool": 99}}, ["method.labels", "method.pool"]),
    ({"method": {"name": "spl", "label_weights": [1.0]}}, ["method.label_weights"]),
    ({"method": {"name": "glcl", "blocks": 5}}, ["method.blocks"]),
    ({"method": {"name": "densecl", "grid": 99}}, ["method.grid"]),
    ({"method": {"name": "pointrc", "points": 9999}}, ["method.points"]),
    ({"method": "jigsaw", "network": {"width": 4, "depth": 6}}, ["network.depth"]),
    ({"method": {"name": "mae", "blocks": 40}}, ["method.blocks"]),
    ({"method": {"name": "inpainting", "blocks": 40}}, ["method.blocks"]),
    ({"method": "simclr", "steps": 10, "optimiser": {"warmup": 10}}, ["optimiser.warmup"]),
    ({"method": {"name": "sscl", "global_share": 0.5}, "steps": 10, "optimiser": {"warmup": 5}}, ["optimiser.warmup"]),
    ({"method": {"name": "glcl", "global_share": 0.9}, "steps": 10, "optimiser": {"warmup": 1}}, ["optimiser.warmup"]),
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    made = make_store(tmp_path_factory.mktemp("methods") / "prepared", subjects=6, depth=4, size=(32, 32), phases=1)
    return PreparedStore(made)


def places(error: FewlabelError) -> list[str]:
    return [fault.where for fault in error.faults]


@pytest.mark.parametrize(("values", "told"), REFUSED, ids=str)
def test_it_is_told_before_any_training(
    store: PreparedStore, tmp_path: Path, values: dict[str, Any], told: list[str]
) -> None:
    settings = pretrain_settings(store.folder, tmp_path / "out", **values)
    with pytest.raises(SettingsError) as caught:
        pretrain.check(settings, store)
    assert places(caught.value) == told
    open_steps = [place for place in told if place != "optimiser.warmup"]
    if open_steps:
        with pytest.raises(SettingsError) as caught:
            pretrain.check(settings, store, steps_open=True)
        assert places(caught.value) == open_steps
    else:
        pretrain.check(settings, store, steps_open=True)


def test_faults_of_pretraining_and_fine_tuning_come_at_once(store: PreparedStore, tmp_path: Path) -> None:
    over: dict[str, Any] = {
        "network": {"width": 4, "depth": 2},
        "pretrain": {"method": {"name": "glcl", "blocks": 5}},
        "finetune": {"regime": "urpc"},
    }
    asked = train_settings({"data": tmp_path / "raw", "out": tmp_path, "budget": "off", "pretraining": True, **over})
    with pytest.raises(FewlabelError) as caught:
        check_plans(store, dict(plan(asked)), trains=True, evaluates=True)
    assert set(places(caught.value)) == {"pretrain.method.blocks", "finetune.network.depth"}
