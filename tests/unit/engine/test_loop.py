"""The loop's record: which time is a step's."""

from __future__ import annotations

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
        module=module,
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
