"""What nobody sets suits small images: every method and every regime takes its steps on them by default."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from fewlabel.core.plugin_discovery import plugin_names
from fewlabel.nets.unet import UNetConfig
from kit import finetuning, pretraining

SIZES = [(16, 16), (32, 32), (48, 64)]


def network(size: tuple[int, ...], **asked: Any) -> UNetConfig:
    """The usual network, but narrow, as the stages build it for images of a size."""
    return UNetConfig(width=4, **asked).fitted(size)


def check(terms: dict[str, Tensor], module: torch.nn.Module) -> None:
    total = torch.stack(list(terms.values())).sum()
    assert bool(torch.isfinite(total))
    total.backward()
    grown = [tensor.grad for tensor in module.parameters() if tensor.grad is not None]
    assert grown
    assert all(bool(torch.isfinite(gradient).all()) for gradient in grown)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", plugin_names("fewlabel.methods"))
def test_methods(name: str, size: tuple[int, int]) -> None:
    method = pretraining.toy_method(name, size=size, network=network(size)).train()
    for step in (*pretraining.stage_steps(method), pretraining.TOTAL - 1):
        check(method.losses(pretraining.batch_for(method, step, size=size)).terms, method)
        method.after_step(step, pretraining.TOTAL)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", plugin_names("fewlabel.regimes"))
def test_regimes(name: str, size: tuple[int, int]) -> None:
    regime = finetuning.build(name, network=network(size)).train()
    for step in (0, 5, finetuning.TOTAL - 1):
        check(regime.losses(finetuning.toy_batch(regime, step=step, size=size)), regime)
        regime.after_step(step, finetuning.TOTAL)


@pytest.mark.parametrize(
    ("size", "depth"),
    [
        ((192, 176), 5),
        ((32, 32), 5),
        ((48, 64), 5),
        ((16, 16), 4),
        ((40, 40), 4),
        ((24, 32), 4),
        ((20, 32), 3),
        ((8, 8), 3),
        ((16, 32, 32), 5),
        ((16, 16, 16), 4),
        ((8, 16, 16), 4),
    ],
)
def test_a_depth_that_nobody_set_fits_the_images(size: tuple[int, ...], depth: int) -> None:
    built = network(size)
    assert built.depth == depth
    assert not any(side % built.stride for side in size)
    assert network(size, depth=5).depth == 5


@pytest.mark.parametrize("size", [(130, 130), (18, 18), (16, 30, 32), (4, 4)])
def test_where_none_fits_nothing_is_changed(size: tuple[int, ...]) -> None:
    assert network(size) == UNetConfig(width=4)
