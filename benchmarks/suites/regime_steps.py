"""A fine-tuning step of a regime on made slices of the size of ``acdc-lite``, for what measures its cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewlabel.core.plugin_discovery import load_plugin
from fewlabel.core.settings.base import resolve_plugin
from fewlabel.data.batch import SegmentationBatch
from fewlabel.engine.runtime import has_bf16
from fewlabel.engine.step import gradients_of
from fewlabel.gradients.combine import MeanCombiner
from fewlabel.nets.memory_layout import channels_last
from fewlabel.nets.unet import UNet, UNetConfig
from fewlabel.regimes.base import Regime

#: Classes; slices of a batch, half of them labelled; pixels along a side.
CLASSES, SLICES, SIDE = 4, 20, 128
TOTAL = 100


def rings(side: int) -> Tensor:
    """Labels (slices, side, side): a disc in a ring in a larger disc, somewhere else in every slice."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    shift = 0.3 * torch.rand(2, SLICES, 1, 1, generator=torch.Generator().manual_seed(0)) - 0.15
    radius = ((x - shift[0]).square() + (y - shift[1]).square()).sqrt()
    return (radius < 0.5).long() + (radius < 0.35).long() + (radius < 0.2).long()


def build(name: str, **settings: Any) -> Regime:
    """A regime on the recipe's network, in train mode."""
    torch.manual_seed(0)
    network = UNet(UNetConfig(width=16), CLASSES)
    config = resolve_plugin("fewlabel.regimes", {"name": name, **settings})
    regime: Regime = load_plugin("fewlabel.regimes", name)(config, network)
    return channels_last(regime).train()


def stepper(regime: Regime, at: int) -> Callable[[], None]:
    """A step of the run without its optimiser: losses, gradients, what follows; ``at`` of 100."""
    images = rings(SIDE)[:, None] + 0.3 * torch.randn(SLICES, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    images = images.contiguous(memory_format=torch.channels_last)
    half = SLICES // 2
    wanted = regime.uses_unlabelled
    batch = SegmentationBatch(
        images=images[:half],
        labels=rings(SIDE)[:half],
        slices=torch.arange(half),
        step=at,
        total_steps=TOTAL,
        generator=torch.Generator(),
        unlabelled=images[half:] if wanted else None,
        unlabelled_again=(images[half:],) * (regime.unlabelled_views - 1) if wanted else (),
        unlabelled_slices=torch.arange(half, SLICES) if wanted else None,
        unlabelled_positions=torch.linspace(0.1, 0.9, SLICES - half) if wanted else None,
    )
    named = {name: tensor for name, tensor in regime.named_parameters() if tensor.requires_grad}

    def step() -> None:
        fresh = replace(batch, generator=torch.Generator().manual_seed(0))
        with precision():
            terms = regime.losses(fresh)
        total = torch.stack([term.float() for term in terms.values()]).sum()
        gradients_of({"loss": total}, list(named), list(named.values()), MeanCombiner(), fresh.generator)
        with precision():
            regime.after_step(at, TOTAL)

    def precision() -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=has_bf16("cpu"))

    return step
