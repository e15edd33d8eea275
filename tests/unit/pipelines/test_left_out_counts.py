"""Fits that leave a patient out count in the forecast; what they cannot be done with is told before any training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fewlabel.core.errors import SettingsError
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import step_timing
from fewlabel.stages.finetune import check
from kit.pipeline import Stages, go
from kit.stores import make_store
from kit.tiny import finetune_settings

NAMES = tuple(f"patient{number:03d}" for number in range(1, 9))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> PreparedStore:
    """No label for validation or test."""
    folder = tmp_path_factory.mktemp("counts") / "prepared"
    return PreparedStore(make_store(folder, subjects=8, depth=2, size=(16, 16), phases=1, unlabelled=NAMES[5:]))


def costs(
    store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **over: Any
) -> list[tuple[str, int, float]]:
    """Name, number of fits and seconds of a step, where a step takes 1 s and a scan 10 s to validate on."""
    monkeypatch.setattr(step_timing, "mean_seconds", lambda *_: 1.0)
    monkeypatch.setattr(step_timing, "seconds_of", lambda _: 10.0)
    settings = finetune_settings(store.folder, tmp_path / "out", control=True, regime="mean_teacher", **over)
    _, labels = check(settings, store)
    arms, _ = step_timing.finetuning_costs(settings, labels)
    return [(arm.name, arm.fits, arm.step) for arm in arms]


def test_each_left_out_patient_takes_one_network_of_either_arm(
    store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def found(**over: Any) -> list[tuple[str, int, float]]:
        return costs(store, tmp_path, monkeypatch, **over)

    two = {"subjects": NAMES[:2]}
    assert found(**two) == [("finetune", 3, 1.0), ("control", 3, 1.0)]
    assert found(**two, members=3)[0][1] == 5
    assert found(**two, expect="never")[0][1] == 1
    assert found(labelled=1)[0][1] == 1
    three = {"subjects": NAMES[:3], "validation": "leave_one_out", "validate_every": 10}
    lengths = [sum(case.stop - case.start for case in store.cases if case.subject == name) for name in NAMES[:3]]
    typical = sorted(lengths)[1]
    for members, expect in ((1, "auto"), (3, "never")):
        (_, fits, step), _ = found(**three, members=members, expect=expect)
        assert fits == 3 + members
        # Each is validated on in one fit.
        assert step == pytest.approx(1 + 10 / typical * sum(lengths) / 10 / fits)


def test_what_cannot_be_is_told_before_any_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = Stages.instead(monkeypatch)
    with pytest.raises(SettingsError) as caught:
        go(tmp_path / "run", finetune={"labelled": 1, "expect": "always"})
    assert "finetune.expect: needs at least two labelled patients to leave one out, not 1" in str(caught.value)
    assert stages.names == ["prepare"]
