"""The trainer that both trainings share: what it wires together, and that a resumed run is an uninterrupted one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from fewlabel.core.errors import SettingsError
from fewlabel.engine.checkpoint import CHECKPOINT
from fewlabel.engine.optim import OptimiserConfig
from fewlabel.engine.record import read_record
from fewlabel.engine.runtime import start
from fewlabel.engine.trainer import Trainer
from fewlabel.gradients.aggregators import build_combiner


class Toy(nn.Module):
    """Two layers, a bias that nothing reaches, and a count of its steps."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Linear(4, 3), nn.Linear(3, 1)
        self.idle = nn.Parameter(torch.ones(2))
        self.register_buffer("done", torch.zeros(()))

    def losses(self, batch: Any) -> dict[str, torch.Tensor]:
        found = self.second(torch.relu(self.first(batch.rows)))
        return {"square": found.square().mean(), "size": found.abs().mean()}

    def training_phase(self, step: int, total_steps: int) -> tuple[int, int]:
        return (0, 4) if step < 4 else (4, total_steps - 4)

    def after_step(self, step: int, total_steps: int) -> None:
        self.done += 1


class ToyTrainer(Trainer[Toy]):
    def batch(self, step: int) -> Any:
        generator = torch.Generator().manual_seed(step)
        rows = torch.randn(5, 4, generator=generator)
        return SimpleNamespace(rows=rows, slices=torch.arange(5), generator=generator)

    def terms(self, losses: Any) -> Any:
        return losses

    def followed(self, step: int, losses: Any, loss: torch.Tensor) -> Any:
        self.facts["seen"] = [*self.facts.get("seen", []), step]
        return lambda: {"square": float(losses["square"].detach())}

    def between(self, step: int, record: Any) -> None:
        if step == 5:
            record.add(step, {"looked": 1.0})


def trainer(folder: Path, *, resume: bool = False, **over: Any) -> ToyTrainer:
    words = {"steps": 8, "seed": 0, "checkpoint_seconds": 1e9, "log_every": 1, "resume": resume, "tracking": ()}
    settings = SimpleNamespace(optimiser=OptimiserConfig(name="adam", lr=1e-2, **over), **words)
    model, combiner = Toy(), build_combiner("mitigator")
    return ToyTrainer(model, settings, start("cpu", "32"), folder, {"run": 1}, title="toy", combiner=combiner)


def test_a_resumed_training_is_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = trainer(tmp_path / "whole")
    whole.train()
    cut = trainer(tmp_path / "cut")
    cut.train(stop=3)
    cut.checkpointer.save(3, cut.facts)
    again = trainer(tmp_path / "cut", resume=True)
    again.train()
    assert again.facts == whole.facts == {"seen": list(range(8))}
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    rows = [
        [
            {key: value for key, value in row.items() if key != "seconds"}
            for row in read_record(folder / "metrics.jsonl")
        ]
        for folder in (tmp_path / "whole", tmp_path / "cut")
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0] if "looked" in row] == [5]
    assert float(whole.model.done) == 8
    # Moments are in the checkpoint, not only weights.
    other = trainer(tmp_path / "other", resume=True)
    (tmp_path / "other").mkdir(exist_ok=True)
    (tmp_path / "other" / CHECKPOINT).write_bytes((tmp_path / "cut" / CHECKPOINT).read_bytes())
    assert other.checkpointer.load()[0] == 3
    assert len(other.optimiser.state) > 0


def test_parameters_keep_their_names_in_the_optimiser_s_order(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    known = dict(made.model.named_parameters())
    assert {name: id(known[name]) for name in made.names} == {
        name: id(tensor) for name, tensor in zip(made.names, made.parameters, strict=True)
    }
    assert set(made.names) == set(known)
    before = made.model.idle.detach().clone()
    made.train()
    assert torch.equal(made.model.idle, before)


def test_the_loss_is_the_mean_of_the_terms_and_a_warm_up_fits_every_phase(tmp_path: Path) -> None:
    made = trainer(tmp_path)
    losses = made.model.losses(made.batch(0))
    result = made.step(0)
    assert float(result.loss) == pytest.approx(float(sum(losses.values()).detach()) / 2)
    assert result.gradients[made.names.index("idle")] is None
    with pytest.raises(SettingsError, match=r"optimiser\.warmup"):
        trainer(tmp_path, warmup=4)
