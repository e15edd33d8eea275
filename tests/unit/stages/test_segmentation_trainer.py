"""One fit: what becomes of the optimiser's moments where a regime puts other weights in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fewlabel.regimes.supervised import Supervised
from fewlabel.stages import finetune
from fewlabel.stages.finetune.trainer import SegmentationTrainer
from kit.stores import make_store
from kit.tiny import finetune_settings


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("fit") / "prepared", subjects=6, depth=2, size=(16, 16), phases=1)


@pytest.fixture
def moments(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the optimiser has moments at the beginning of each step."""
    found: list[bool] = []
    original = SegmentationTrainer.step

    def step(self: SegmentationTrainer, number: int) -> Any:
        found.append(len(self.optimiser.state) > 0)
        return original(self, number)

    monkeypatch.setattr(SegmentationTrainer, "step", step)
    return found


def begun(store: Path, out: Path, **over: Any) -> SegmentationTrainer:
    out.mkdir(exist_ok=True)
    values = {"labelled": 1, "steps": 4, "batch": 2, "validation": "none", "recalibrate": "never"}
    return finetune.begin(finetune_settings(store, out, **values | over))


def replacing(monkeypatch: pytest.MonkeyPatch, at: int | None) -> None:
    """A regime that says after one step that it has put other weights in place."""

    def after_step(self: Supervised, step: int, total_steps: int) -> None:
        del total_steps
        self.replaced = step == at

    monkeypatch.setattr(Supervised, "after_step", after_step)


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_moments_go_with_the_weights_that_went(store, tmp_path, monkeypatch, moments, optimiser) -> None:
    for at, expected in ((None, [False, True, True, True]), (1, [False, True, False, True])):
        replacing(monkeypatch, at)
        begun(store, tmp_path / str(at), optimiser={"name": optimiser, "lr": 1e-3}).run()
        assert moments == expected
        moments.clear()


def test_a_run_resumed_behind_that_step_has_none_either(store, tmp_path, monkeypatch, moments) -> None:
    replacing(monkeypatch, 1)
    whole = begun(store, tmp_path / "whole").run().state_dict()
    moments.clear()
    first = begun(store, tmp_path / "cut")
    first.run(stop=2)
    first.checkpointer.save(2, first.facts)
    found = begun(store, tmp_path / "cut", resume=True).run().state_dict()
    assert moments == [False, True, False, True]
    assert all(torch.equal(tensor, found[name]) for name, tensor in whole.items())
