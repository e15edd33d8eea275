"""Optimisers and learning rates; the rate is a function of the step, so resuming needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from fewlabel.core.config import Settings, setting


class OptimiserConfig(Settings):
    """How weights are updated."""

    name: Literal["sgd", "adam", "adamw"] = setting("sgd", "optimiser", source="GCL: SGD, cosine")
    lr: float = setting(0.1, "peak learning rate", gt=0, source="code of PCL, whose protocol GCL follows")
    momentum: float = setting(0.9, "momentum of SGD", ge=0, lt=1, source="code of PCL, whose protocol GCL follows")
    weight_decay: float = setting(
        1e-5, "weight decay, on tensors of two or more axes", ge=0, source="code of PCL, whose protocol GCL follows"
    )
    schedule: Literal["cosine", "poly", "constant"] = setting(
        "cosine", "decay of the rate", source="code of PCL, whose protocol GCL follows"
    )
    min_lr: float = setting(0.0, "rate at the end of a cosine", ge=0)
    warmup: int = setting(0, "linear warm-up", unit="steps", ge=0)
    clip: float | None = setting(None, "largest gradient norm; null for none", gt=0)


def build_optimiser(config: OptimiserConfig, parameters: Iterable[Tensor]) -> Optimizer:
    """The optimiser over these parameters; biases and normalisation are not decayed."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=config.momentum > 0)
    kind = torch.optim.Adam if config.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=config.lr)


def learning_rate(config: OptimiserConfig, step: int, total_steps: int) -> float:
    """Rate of one step: linear warm-up, then cosine to ``min_lr``, poly of power 0.9, or constant."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    span = max(total_steps - config.warmup, 1)
    done = min((step - config.warmup) / span, 1.0)
    if config.schedule == "cosine":
        return config.min_lr + (config.lr - config.min_lr) * 0.5 * (1 + math.cos(math.pi * done))
    if config.schedule == "poly":
        return float(config.lr * (1 - done) ** 0.9)
    return config.lr


def set_rate(optimiser: Optimizer, rate: float) -> None:
    """Give all groups one rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate
