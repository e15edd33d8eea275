"""Labelled patients who lack a structure of the data set: what is learnt of the others, and what is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewlabel.core.artifact.files import read_json
from fewlabel.data.store import PreparedStore
from fewlabel.regimes import weak_to_strong as _weak_to_strong
from fewlabel.stages import finetune
from fewlabel.stages.finetune import network as _network
from kit.stores import make_store, resealed
from kit.tiny import finetune_settings

#: Steps of a run, and of them those of the first phase.
STEPS, FIRST = 60, 30


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hearts of which the first has no left ventricle."""
    made = make_store(tmp_path_factory.mktemp("lacking") / "prepared", subjects=6, depth=4, size=(16, 16), phases=1)
    labels = np.load(made / "labels.npy")
    own = PreparedStore(made).slices_of(["patient001"])
    labels[own] = np.where(labels[own] == 3, 2, labels[own])
    np.save(made / "labels.npy", labels)
    return resealed(made)


def run(store: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **over: Any) -> tuple[dict[str, Any], list[str]]:
    """What is kept of a weak-to-strong run, and what the user is told of its labels."""
    said: list[str] = []
    monkeypatch.setattr(_network, "say", said.append)
    # Shares of a network of so few steps jump about; here only what is absent counts.
    monkeypatch.setattr(_weak_to_strong, "PATIENCE", STEPS)
    regime = {"name": "fixmatch", "rest": FIRST / STEPS, "one_piece": False, **over.pop("regime", {})}
    values = {"regime": regime, "steps": STEPS, "log_every": 1, "validation": "none", "expect": "never", **over}
    finetune.run(finetune_settings(store, out, **values))
    return dict(read_json(out / "segmenter.json")), said


def test_the_second_phase_runs_for_the_structures_that_the_labels_have(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched: list[list[bool]] = []
    update = _weak_to_strong.ClassShares.update

    def noted(self: Any, labels: Any) -> None:
        # Of a network of so few steps hardly any class is sure: what labels have stands for what it would give.
        update(self, labels.clone().flatten().scatter_(0, labels.new_tensor([0, 1, 2]), labels.new_tensor([0, 1, 2])))
        watched.append(self.known.tolist())

    monkeypatch.setattr(_weak_to_strong.ClassShares, "update", noted)
    facts, said = run(store, tmp_path / "run", monkeypatch, subjects=["patient001"])
    assert facts["outcomes"][0]["given_up"] is False
    assert watched == [[True, True, True, False]] * (STEPS - FIRST)
    assert said == ["No labelled slice shows left ventricle: nothing is learnt of it."]


def test_where_the_labels_have_every_structure_all_are_expected_and_nothing_is_said(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(self: Any, _: Any) -> None:
        self.seen.fill_(self.settle)

    monkeypatch.setattr(_weak_to_strong.ClassShares, "update", nothing)
    facts, said = run(store, tmp_path / "run", monkeypatch, subjects=["patient001", "patient002"])
    assert facts["outcomes"][0]["given_up"] is True
    assert said == []


@pytest.mark.parametrize("members", [1, 2])
def test_it_is_said_once_for_networks_and_control(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: int
) -> None:
    over = {"subjects": ["patient001"], "members": members, "control": True, "steps": 2, "expect": "never"}
    _, said = run(store, tmp_path / "run", monkeypatch, regime={"unlabelled_weight": 0.5}, **over)
    assert len(said) == 1


def test_a_patient_left_out_takes_along_the_structure_that_is_hers_alone(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: set[tuple[bool, ...]] = set()
    meet = _weak_to_strong.WeakToStrong.meet_labels

    def noted(self: Any, pixels: Any) -> None:
        meet(self, pixels)
        expected.add(tuple(self.shares.known.tolist()))

    monkeypatch.setattr(_weak_to_strong.WeakToStrong, "meet_labels", noted)
    over = {"subjects": ["patient001", "patient002"], "steps": 4, "validation": "leave_one_out"}
    run(store, tmp_path / "run", monkeypatch, **over)
    assert expected == {(True, True, True, True), (True, True, True, False)}
