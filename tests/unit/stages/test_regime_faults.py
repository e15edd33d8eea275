"""What a regime cannot work with is told before any training, with all other faults, and again where it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import FewlabelError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines._stage_checks import check_plans
from fewlabel.pipelines.train import plan, train_settings
from fewlabel.stages import finetune
from kit.stores import make_store
from kit.tiny import finetune_settings

#: Settings of fine-tuning that a regime refuses, and where its faults lie.
REFUSED: list[tuple[dict[str, Any], list[str]]] = [
    ({"regime": "urpc", "network": {"width": 4, "depth": 2}}, ["network.depth"]),
    ({"regime": {"name": "arco", "stride": 8}}, ["regime.stride"]),
    ({"regime": {"name": "reco", "stride": 8}}, ["regime.stride"]),
    ({"regime": {"name": "mona", "stride": 8}}, ["regime.stride"]),
    ({"regime": {"name": "rot_consistency", "turns": "quarter"}, "view": [16, 8]}, ["regime.turns"]),
    ({"steps": 100, "optimiser": {"warmup": 100}}, ["optimiser.warmup"]),
    ({"regime": "fixmatch", "steps": 100, "optimiser": {"warmup": 20}}, ["optimiser.warmup"]),
    ({"regime": "arco", "steps": 90, "optimiser": {"warmup": 30}}, ["optimiser.warmup"]),
    (
        {"regime": "urpc", "network": {"width": 4, "depth": 2}, "steps": 40, "optimiser": {"warmup": 50}},
        ["network.depth", "optimiser.warmup"],
    ),
    (
        {"regime": {"name": "fixmatch", "contrast": 0.1, "contrast_labels": ["scanner"]}, "unlabelled_batch": 1},
        ["regime.contrast_labels", "unlabelled_batch"],
    ),
]
#: Such as none refuses.
FINE: list[dict[str, Any]] = [
    {"regime": "urpc"},
    {"regime": {"name": "arco", "stride": 8, "contrast_weight": 0.0, "nn_weight": 0.0}},
    {"regime": {"name": "rot_consistency", "turns": "quarter"}},
    {"regime": {"name": "rot_consistency", "turns": "half"}, "view": [16, 8]},
    {"regime": {"name": "rot_consistency", "turns": "quarter", "unlabelled_weight": 0.0}, "view": [16, 8]},
    {"regime": "fixmatch", "steps": 100, "optimiser": {"warmup": 19}},
    {"regime": {"name": "fixmatch", "unlabelled_weight": 0.0}, "steps": 100, "optimiser": {"warmup": 99}},
    {"regime": {"name": "arco", "pretrain_share": 0.0}, "steps": 90, "optimiser": {"warmup": 89}},
    {"regime": {"name": "fixmatch", "contrast": 0.1, "contrast_labels": ["patient", "position"], "rest": 0.0}},
    {"regime": {"name": "unimatch", "contrast": 0.1, "contrast_of": "pixels", "rest": 0.0}},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    made = make_store(tmp_path_factory.mktemp("regimes") / "prepared", subjects=6, depth=2, size=(16, 16), phases=1)
    return PreparedStore(made)


def places(error: FewlabelError) -> list[str]:
    return [fault.where for fault in error.faults]


@pytest.mark.parametrize(("values", "told"), REFUSED, ids=str)
def test_it_is_told_before_any_training(
    store: PreparedStore, tmp_path: Path, values: dict[str, Any], told: list[str]
) -> None:
    settings = finetune_settings(store.folder, tmp_path / "out", **values)
    with pytest.raises(SettingsError) as caught:
        finetune.check(settings, store)
    assert places(caught.value) == told
    with pytest.raises(SettingsError):
        finetune.run(settings)
    assert not settings.out.exists()


@pytest.mark.parametrize("values", FINE, ids=str)
def test_what_is_fine_is_not_refused(store: PreparedStore, tmp_path: Path, values: dict[str, Any]) -> None:
    settings = finetune_settings(store.folder, tmp_path / "out", **values)
    finetune.check(settings, store)
    trainer = finetune.begin(settings)
    trainer.loop(0, 1).run(trainer.step, 0)


def test_the_phases_are_those_of_the_run_and_of_its_control(store: PreparedStore, tmp_path: Path) -> None:
    over = {"regime": "arco", "steps": 90, "optimiser": {"warmup": 30}, "encoder": tmp_path / "to-come"}
    settings = finetune_settings(store.folder, tmp_path / "out", **over)
    encoder = finetune.PlannedEncoder(settings.network)
    # Behind an encoder there is no first stage; the control from scratch has one.
    finetune.check(settings, store, encoder)
    with pytest.raises(SettingsError) as caught:
        finetune.check(settings.model_copy(update={"control": True}), store, encoder)
    assert places(caught.value) == ["optimiser.warmup"]


def test_the_warm_up_is_held_against_no_number_of_steps_that_is_open(store: PreparedStore, tmp_path: Path) -> None:
    over = {"regime": "urpc", "network": {"width": 4, "depth": 2}, "optimiser": {"warmup": 5000}}
    settings = finetune_settings(store.folder, tmp_path / "out", **over)
    with pytest.raises(SettingsError) as caught:
        finetune.check(settings, store, steps_open=True)
    assert places(caught.value) == ["network.depth"]


def plans_of(store: PreparedStore, out: Path, **over: Any) -> dict[str, Any]:
    return dict(plan(train_settings({"data": out / "raw", "out": out, "budget": "off", "pretraining": True, **over})))


def test_a_run_is_refused_once_with_all_faults_of_all_stages(store: PreparedStore, tmp_path: Path) -> None:
    over: dict[str, Any] = {
        "regime": "urpc",
        "network": {"width": 4, "depth": 2},
        "finetune": {"steps": 100, "optimiser": {"warmup": 100}},
        "evaluate": {"part": "nowhere"},
    }
    plans = plans_of(store, tmp_path, **over)
    with pytest.raises(FewlabelError) as caught:
        check_plans(store, plans, trains=True, evaluates=True)
    assert places(caught.value)[:2] == ["finetune.network.depth", "finetune.optimiser.warmup"]
    assert len(caught.value.faults) == 3
    with pytest.raises(FewlabelError) as caught:
        check_plans(store, plans, trains=True, evaluates=True, steps_open={"finetune"})
    assert len(caught.value.faults) == 2


def test_labels_that_only_unlabelled_scans_tell_apart_may_guide_a_contrast(tmp_path: Path) -> None:
    store = PreparedStore(make_store(tmp_path / "prepared", subjects=6, depth=2, size=(16, 16), phases=1))
    store.split["parts"]["train"] = ["patient001"]
    assert len(store.split["parts"]["pretrain"]) > 1
    regime = {"name": "fixmatch", "contrast": 0.1, "contrast_labels": ["patient"]}
    finetune.check(finetune_settings(store.folder, tmp_path / "out", regime=regime), store)
