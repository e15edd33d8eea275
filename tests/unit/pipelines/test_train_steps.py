"""Steps that a warm-up takes whole are refused before any scan is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.pipelines import train


def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **words: Any) -> list[str]:
    """Faults that a run of these words has before its first stage; it would not begin that one."""

    class Begun(Exception):
        pass

    def stop(*_: Any, **__: Any) -> None:
        raise Begun

    monkeypatch.setattr(train, "run_stage", stop)
    monkeypatch.setattr(train.Sizing, "choose_grid", stop)
    (tmp_path / "scans").mkdir()
    values = {"data": tmp_path / "scans", "out": tmp_path / "run", **words}
    try:
        train.run(train.train_settings(values))
    except Begun:
        return []
    except SettingsError as error:
        return [fault.where for fault in error.faults]
    raise AssertionError("nothing was begun")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"finetune": {"steps": 30, "optimiser": {"warmup": 30}}}, ["finetune.optimiser.warmup"]),
        (
            {"pretraining": True, "budget": "off", "steps": 30, "optimiser": {"warmup": 30}},
            ["pretrain.optimiser.warmup", "finetune.optimiser.warmup"],
        ),
        (
            {"finetune": {"regime": "fixmatch", "steps": 100, "optimiser": {"warmup": 20}}},
            ["finetune.optimiser.warmup"],
        ),
        ({"finetune": {"regime": "fixmatch", "steps": 100, "optimiser": {"warmup": 19}}}, []),
        ({"budget": "10m", "finetune": {"optimiser": {"warmup": 5000}}}, []),
    ],
    ids=str,
)
def test_they_are_told_before_anything_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: dict[str, Any], told: list[str]
) -> None:
    assert begun(tmp_path, monkeypatch, **words) == told
