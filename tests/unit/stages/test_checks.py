"""What the settings of a stage have wrong against the prepared data is told at once, before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import DataError, FewlabelError, SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.nets.unet import UNetConfig
from fewlabel.stages import evaluate, finetune, pretrain
from fewlabel.stages.evaluate import EvaluateSettings
from fewlabel.stages.finetune import PlannedEncoder
from kit.stores import make_store
from kit.tiny import NETWORK, finetune_settings, pretrain_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    made = make_store(tmp_path_factory.mktemp("checks") / "prepared", subjects=8, depth=2, size=(16, 16), phases=1)
    return PreparedStore(made)


def places(error: FewlabelError) -> list[str]:
    return [fault.where for fault in error.faults]


@pytest.mark.parametrize(
    ("stage", "wrong", "told"),
    [
        ("finetune", {"labelled": 99, "network": {**NETWORK, "in_channels": 3}}, ["network.in_channels", "99"]),
        (
            "finetune",
            {"labelled": 1, "expect": "always", "recalibrate": "always", "network": {**NETWORK, "norm": "instance"}},
            ["expect: needs", "network.norm"],
        ),
        ("pretrain", {"parts": ["nowhere", "test"], "network": {**NETWORK, "in_channels": 3}}, ["parts", "parts"]),
    ],
)
def test_faults_of_labels_and_network_come_at_once(
    store: PreparedStore, tmp_path: Path, stage: str, wrong: dict[str, Any], told: list[str]
) -> None:
    if stage == "pretrain":
        settings = pretrain_settings(store.folder, tmp_path / "out", **wrong)
        with pytest.raises(FewlabelError) as caught:
            pretrain.check(settings, store)
        assert places(caught.value) == ["network.in_channels", *told]
        return
    with pytest.raises(FewlabelError) as caught:
        finetune.check(finetune_settings(store.folder, tmp_path / "out", **wrong), store)
    assert len(caught.value.faults) == 2
    assert all(word in str(caught.value) for word in told)


def test_a_planned_encoder_is_held_against_what_the_user_gave(store: PreparedStore, tmp_path: Path) -> None:
    settings = finetune_settings(
        store.folder, tmp_path / "out", encoder=tmp_path / "to-come", network={"width": 8, "depth": 2}, labelled=1
    )
    encoder = PlannedEncoder(UNetConfig(width=4, depth=3))
    with pytest.raises(SettingsError) as caught:
        finetune.check(settings, store, encoder)
    assert places(caught.value) == ["network.width", "network.depth"]
    with pytest.raises(SettingsError) as caught:
        finetune.check(settings, store, encoder, user_network={"depth"})
    assert places(caught.value) == ["network.depth"]
    network, labels = finetune.check(settings, store, encoder, user_network=())
    assert (network.width, network.depth) == (4, 3)
    assert labels.subjects == set(labels.draw.labelled)


def test_labels_of_a_planned_encoder_keep_patients_from_being_left_out(store: PreparedStore, tmp_path: Path) -> None:
    settings = finetune_settings(store.folder, tmp_path / "out", encoder=tmp_path / "to-come", expect="always")
    subjects = tuple(store.split["parts"]["train"][:1])
    network = UNetConfig.parse(NETWORK)
    with pytest.raises(SettingsError, match="whose labels the encoder learnt from"):
        finetune.check(settings, store, PlannedEncoder(network, subjects))
    for other in (settings.model_copy(update={"mode": "scratch"}), settings.model_copy(update={"expect": "never"})):
        _, labels = finetune.check(other, store, PlannedEncoder(network, subjects))
        assert labels.expects == (other.expect == "always")


def test_held_out_patients_count_as_learnt_from(store: PreparedStore, tmp_path: Path) -> None:
    settings = finetune_settings(store.folder, tmp_path / "out", labelled=1, validation="held_out")
    _, labels = finetune.check(settings, store)
    assert labels.subjects == {*labels.draw.labelled, *labels.draw.validation}
    assert labels.draw.validation


def test_pretraining_learns_from_labels_of_the_draw_only(store: PreparedStore, tmp_path: Path) -> None:
    settings = pretrain_settings(store.folder, tmp_path / "out", method="sscl", labelled=2)
    planned = pretrain.check(settings, store)
    assert len(planned.subjects) == 2
    assert pretrain.check(settings, store, planned.subjects) == planned
    with pytest.raises(SettingsError, match=f"those of {planned.subjects[1]}") as caught:
        pretrain.check(settings, store, planned.subjects[:1])
    assert places(caught.value) == ["pretrain"]
    assert pretrain.check(settings.model_copy(update={"method": planned_method("simclr")}), store, ()).subjects == ()


def planned_method(name: str) -> Any:
    return pretrain_settings(Path("d"), Path("o"), method=name).method


def test_a_part_that_is_scored_has_labels_that_no_training_uses(store: PreparedStore, tmp_path: Path) -> None:
    def settings(part: str) -> EvaluateSettings:
        return EvaluateSettings.parse({"data": store.folder, "segmenter": "s", "out": "o", "part": part})

    test = store.split["parts"]["test"]
    evaluate.check(settings("test"), store, store.split["parts"]["train"])
    with pytest.raises(DataError, match=f"those of {test[0]}") as caught:
        evaluate.check(settings("test"), store, test[:1])
    assert places(caught.value) == ["part"]
    with pytest.raises(SettingsError, match='no part "tets"'):
        evaluate.check(settings("tets"), store, ())
