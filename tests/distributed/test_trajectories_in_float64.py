"""Whole trainings at the default rate: two processes end with the weights of one, but for the rounding of float64.

In float32 the same two runs end as far as 0.02 apart. A sum over two processes is rounded otherwise, by 1e-6 of a
gradient; at a rate of 0.1 that puts one activation on the other side of a ReLU's zero, or another pixel in front in a
pool, and from there the gradients differ. One process that begins so little away from itself goes as far.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewlabel.core.rng import torch_stream
from fewlabel.stages.pretrain import PretrainingTrainer
from kit.ranks import as_torchrun_does, run_ranks
from kit.stores import make_store
from kit.tiny import pretrain_settings

#: Rates of the shipped settings.
OPTIMISERS: dict[str, dict[str, Any]] = {"sgd": {}, "adamw": {"name": "adamw", "lr": 1e-3}}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("trajectories") / "prepared", subjects=6, depth=5, size=(32, 32))


def trained(store: Path, out: Path, optimiser: str, nudge: float = 0.0) -> dict[str, Tensor]:
    """Weights and statistics after eight steps, begun so far from the usual weights, as a share of each."""
    as_torchrun_does()
    out.mkdir(exist_ok=True)
    method = {"name": "simclr", "centre": False}
    settings = pretrain_settings(store, out, method=method, steps=8, optimiser=OPTIMISERS[optimiser])
    training = PretrainingTrainer.begin(settings)
    training.model.double()
    with torch.no_grad():
        for name, weight in training.model.named_parameters():
            weight.mul_(1 + nudge * torch.randn(weight.shape, generator=torch_stream(0, name), dtype=torch.float64))
    usual = training.loader.batch

    def batch(*args: Any, **kwargs: Any) -> Any:
        made = usual(*args, **kwargs)
        return replace(
            made, views=tuple(waves(view, made.slices, made.step + part) for part, view in enumerate(made.views))
        )

    training.loader.batch = batch  # type: ignore[method-assign]
    training.train()
    return training.model.state_dict()


def waves(view: Tensor, slices: Tensor, phase: float) -> Tensor:
    """Views by formula, equal whichever rows they lie among; in float32 some processors round them otherwise."""
    place = torch.arange(view[0].numel(), dtype=torch.float64)
    return torch.cos((0.37 + 0.01 * slices[:, None]) * place**1.1 + phase).view(view.shape)


def furthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((tensor - other[name]).abs().max()) for name, tensor in one.items())


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_two_processes_end_with_the_weights_of_one(store: Path, tmp_path: Path, optimiser: str) -> None:
    one = trained(store, tmp_path / "one", optimiser)
    (tmp_path / "meeting").mkdir()
    two, other = run_ranks(tmp_path / "meeting", trained, store, tmp_path / "two", optimiser)
    assert furthest(two, other) == 0
    assert furthest(one, two) < 1e-11


def test_one_process_magnifies_a_millionth_as_much_as_two_differ_in_float32(store: Path, tmp_path: Path) -> None:
    one, nudged = (trained(store, tmp_path / str(nudge), "sgd", nudge) for nudge in (0.0, 3e-6))
    assert furthest(one, nudged) > 1e-3
