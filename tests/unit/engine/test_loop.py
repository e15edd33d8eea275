"""The loop's record: which time is a step's, and at what rate it was taken."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from fewlabel.engine import loop as loop_module
from fewlabel.engine.checkpoint import Checkpointer
from fewlabel.engine.loop import Loop, StepResult
from fewlabel.engine.optim import OptimiserConfig
from fewlabel.engine.record import Record, read_record


class Clock:
    """Time that passes only when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


def test_a_step_s_seconds_hold_what_follows_the_update_and_not_what_comes_between_steps(tmp_path, monkeypatch):
    clock, order = Clock(), []
    monkeypatch.setattr(loop_module, "time", clock)
    module = nn.Linear(1, 1)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)

    def act(name, seconds):
        order.append(name)
        clock.passes(seconds)

    def step(index):
        act("step", 1.0)
        gradients = [torch.ones_like(parameter) for parameter in module.parameters()]
        return StepResult(torch.tensor(2.0), gradients, torch.tensor([index]), lambda: {"known": len(order)})

    Loop(
        title="test",
        optimiser=optimiser,
        config=OptimiserConfig(),
        total_steps=2,
        seed=0,
        checkpointer=Checkpointer(tmp_path, {}, module, optimiser, seconds=1e9),
        record=Record(tmp_path, 0),
        log_every=1,
        after_step=lambda _: act("after", 10.0),
        between=lambda _: act("between", 100.0),
    ).run(step)
    assert order == ["step", "after", "between"] * 2
    rows = read_record(tmp_path / "metrics.jsonl")
    assert [row["seconds"] for row in rows] == [11.0, 11.0]
    # A step's figures are those before anything follows it.
    assert [row["known"] for row in rows] == [1, 4]


def rates(folder, schedule=None, first=0, **config):
    """The rates that a run of ten steps records, to six decimals."""
    module = nn.Linear(1, 1)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    folder.mkdir()
    loop = Loop(
        title="test",
        optimiser=optimiser,
        config=OptimiserConfig(lr=0.4, min_lr=0.1, **config),
        total_steps=10,
        seed=0,
        checkpointer=Checkpointer(folder, {}, module, optimiser, seconds=1e9),
        record=Record(folder, first),
        log_every=1,
        schedule=schedule,
    )
    gradients = [torch.ones_like(parameter) for parameter in module.parameters()]
    loop.run(lambda index: StepResult(torch.tensor(2.0), gradients, torch.tensor([index])), first)
    return [row["lr"] for row in read_record(folder / "metrics.jsonl")]


def cosine(length):
    return [0.1 + 0.3 * (1 + math.cos(math.pi * step / length)) / 2 for step in range(length)]


def test_a_run_of_one_stage_has_one_schedule_and_a_run_of_two_has_two(tmp_path):
    def two(step):
        return (0, 6) if step < 6 else (6, 4)

    assert rates(tmp_path / "one") == pytest.approx(cosine(10), abs=1e-6)
    assert rates(tmp_path / "whole", lambda step: (0, 10)) == pytest.approx(cosine(10), abs=1e-6)
    assert rates(tmp_path / "two", two) == pytest.approx([*cosine(6), *cosine(4)], abs=1e-6)
    # Continued from a checkpoint, as in one go.
    assert rates(tmp_path / "late", two, first=7) == pytest.approx(cosine(4)[1:], abs=1e-6)


def test_every_stage_is_warmed_up(tmp_path):
    found = rates(tmp_path / "run", lambda step: (0, 6) if step < 6 else (6, 4), warmup=2)
    expected = [0.2, 0.4, *cosine(4), 0.2, 0.4, *cosine(2)]
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_stage_begins_without_the_moments_of_the_one_before(tmp_path):
    module = nn.Linear(1, 1, bias=False)
    optimiser = torch.optim.Adam(module.parameters(), lr=0.1)
    weights = []

    def step(index):
        weights.append(float(module.weight.detach()))
        gradient = torch.full_like(module.weight, 1000.0 if index < 3 else 0.001)
        return StepResult(torch.tensor(2.0), [gradient], torch.tensor([index]))

    Loop(
        title="test",
        optimiser=optimiser,
        config=OptimiserConfig(name="adam", lr=0.1, schedule="constant"),
        total_steps=5,
        seed=0,
        checkpointer=Checkpointer(tmp_path, {}, module, optimiser, seconds=1e9),
        record=Record(tmp_path, 0),
        schedule=lambda index: (0, 3) if index < 3 else (3, 2),
    ).run(step)
    # Adam's first step is as long as the rate, however small the gradient; moments of 1000 would make it nothing.
    assert weights[3] - weights[4] == pytest.approx(0.1, rel=1e-3)
