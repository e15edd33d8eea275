"""What ``train`` finds out before it trains, and how it goes on after a call that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import DataError, FewlabelError, SettingsError
from fewlabel.core.settings.base import Settings
from fewlabel.pipelines import train
from kit.pipeline import Stages, go
from kit.stores import make_store


@pytest.fixture
def stages(monkeypatch: pytest.MonkeyPatch) -> Stages:
    return Stages.instead(monkeypatch, subjects=6)


def test_the_corrected_call_needs_no_resume(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    stages.fail = "prepare"
    with pytest.raises(DataError):
        go(out)
    assert not (out / "run.json").exists()
    stages.fail = ""
    go(out)
    assert read_json(out / "run.json")["finished"] is True


def test_a_folder_with_no_more_than_the_record_of_a_failed_call_is_new(stages: Stages, tmp_path: Path) -> None:
    out = tmp_path / "run"
    write_json(out / "run.json", {"kind": "run", "stages": {}, "settings": {}, "finished": False})
    go(out)
    assert read_json(out / "run.json")["finished"] is True


@pytest.mark.parametrize("content", [[1], {"kind": "mine"}])
def test_somebody_elses_record_is_left_alone(stages: Stages, tmp_path: Path, content: Any) -> None:
    out = tmp_path / "run"
    write_json(out / "run.json", content)
    with pytest.raises(SettingsError):
        go(out)
    assert read_json(out / "run.json") == content


def test_a_wrong_data_folder_then_the_right_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real ``prepare``."""
    from kit.scans import nnunet_folder

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    out, real = tmp_path / "run", train.run_stage
    names: list[str] = []

    def run(name: str, settings: Settings, **known: Any) -> Path:
        names.append(name)
        if name == "finetune":
            raise DataError("far enough")
        return real(name, settings, **known)

    monkeypatch.setattr(train, "run_stage", run)
    with pytest.raises(FewlabelError, match="nowhere"):
        train.run(train.train_settings({"data": tmp_path / "nowhere", "out": out}))
    data = nnunet_folder(tmp_path / "data", tuple("abcdef"))
    values = {"data": data, "out": out, "prepare": {"size": [32, 32]}}
    with pytest.raises(DataError, match="far enough"):
        train.run(train.train_settings(values))
    assert names == ["prepare", "prepare", "finetune"]
    assert list(read_json(out / "run.json")["stages"]) == ["prepare"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"evaluate": {"part": "tets"}}, "evaluate.part: "),
        ({"subjects": ["nobody"]}, "nobody"),
        ({"finetune": {"labelled": 99}}, "99 asked for"),
        ({"evaluate": {"part": "train"}}, "evaluate.part: "),
        (
            {"method": "sscl", "pretrain": {"labelled": 2}, "finetune": {"labelled": 1}},
            "pretrain: would learn from labels",
        ),
        ({"finetune": {"labelled": 1, "validation": "leave_one_out"}}, "leave-one-out needs two"),
    ],
)
def test_wrong_settings_are_found_before_any_training(
    stages: Stages, tmp_path: Path, values: dict[str, Any], told: str
) -> None:
    out = tmp_path / "run"
    with pytest.raises(FewlabelError) as caught:
        go(out, **values)
    assert told in str(caught.value)
    assert stages.names == ["prepare"]
    assert not (out / "encoder").exists()
    go(out, resume=True)
    assert (out / "encoder").is_dir()


def test_wrong_draw_and_wrong_part_come_at_once(stages: Stages, tmp_path: Path) -> None:
    with pytest.raises(FewlabelError) as caught:
        go(tmp_path / "run", finetune={"labelled": 99}, evaluate={"part": "tets"})
    assert "99 asked for" in str(caught.value)
    assert 'no part "tets"' in str(caught.value)
    assert len(caught.value.faults) == 2


def test_a_data_set_without_labels_still_gets_its_encoder(
    monkeypatch: pytest.MonkeyPatch, stages: Stages, tmp_path: Path
) -> None:
    unlabelled = [f"patient{number:03d}" for number in range(1, 5)]

    def run(name: str, settings: Settings, **_: Any) -> Path:
        if name == "prepare":
            return make_store(Path(settings.out), subjects=4, depth=3, size=(16, 16), unlabelled=unlabelled)  # type: ignore[attr-defined]
        return stages(name, settings)

    monkeypatch.setattr(train, "run_stage", run)
    go(tmp_path / "run", finetune={"labelled": 9})
    assert stages.names == ["pretrain"]


def test_unknown_and_wrong_settings_of_all_stages_come_at_once(stages: Stages, tmp_path: Path) -> None:
    values = {"stepss": 3, "lablled": 2, "pretrain": {"batchh": 3}, "finetune": {"steps": "x"}}
    with pytest.raises(SettingsError) as caught:
        go(tmp_path / "run", **values)
    text = str(caught.value)
    for word in ("stepss", "lablled", "pretrain.batchh", "finetune.steps"):
        assert word in text
    assert len(caught.value.faults) == 4
    assert not (tmp_path / "run").exists()


def test_what_the_pipeline_sets_itself_is_told_once(tmp_path: Path) -> None:
    values = {"data": tmp_path, "out": tmp_path / "run", "evaluate": {"resume": True, "flips": True}, "zzzz": 1}
    with pytest.raises(SettingsError) as caught:
        train.train_settings(values)
    assert len(caught.value.faults) == 3


def test_a_missing_place_is_told_with_the_rest() -> None:
    with pytest.raises(SettingsError) as caught:
        train.train_settings({"data": "raw", "stepss": 3, "finetune": {"steps": 0}})
    text = str(caught.value)
    for word in ("out: ", "stepss", "finetune.steps"):
        assert word in text


def test_labels_that_pretraining_shares_are_no_leak(stages: Stages, tmp_path: Path) -> None:
    go(tmp_path / "run", method="sscl", labelled=2)
    go(tmp_path / "scratch", method="sscl", pretrain={"labelled": 2}, finetune={"labelled": 1, "mode": "scratch"})
    assert stages.names == [*train.CHAIN, *train.CHAIN]


def test_a_network_that_the_encoder_will_not_have_is_told_before_it_is_trained(stages: Stages, tmp_path: Path) -> None:
    values = {"finetune": {"network": {"depth": 3}}, "network": {"width": 8}}
    with pytest.raises(SettingsError) as caught:
        go(tmp_path / "run", **values)
    assert [fault.where for fault in caught.value.faults] == ["finetune.network.depth"]
    assert stages.names == ["prepare"]
    go(tmp_path / "other", network={"width": 8, "depth": 3})
