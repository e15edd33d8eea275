"""Optimisers and learning rates; the rate is a function of the step, so resuming needs no scheduler state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from pydantic import ValidationInfo, field_validator
from torch import Tensor
from torch.optim import Optimizer

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.settings.base import Settings, setting

#: Key of a parameter group: its rate as a multiple of everyone's.
FACTOR = "lr_factor"


class OptimiserConfig(Settings):
    """How weights are updated.

    The momentum of ``sgd`` is Nesterov's (own choice), not the plain one.
    """

    name: Literal["sgd", "adam", "adamw"] = setting(
        "sgd", "optimiser; sgd with Nesterov's momentum", source="GCL: SGD, cosine; Nesterov: own choice"
    )
    lr: float = setting(0.1, "peak learning rate", gt=0, source="code of PCL, whose protocol GCL follows")
    momentum: float = setting(
        0.9, "Nesterov's momentum of sgd; 0 for none", ge=0, lt=1, source="code of PCL, whose protocol GCL follows"
    )
    weight_decay: float = setting(
        1e-5, "weight decay, on tensors of two or more axes", ge=0, source="code of PCL, whose protocol GCL follows"
    )
    schedule: Literal["cosine", "poly", "constant"] = setting(
        "cosine", "decay of the rate", source="code of PCL, whose protocol GCL follows"
    )
    min_lr: float = setting(0.0, "rate at the end of a cosine, at most lr", ge=0)
    warmup: int = setting(
        0, "linear warm-up, of each stage that has a schedule of its own, and shorter than it", unit="steps", ge=0
    )
    clip: float | None = setting(None, "largest gradient norm; null for none", gt=0)

    @field_validator("min_lr")
    @classmethod
    def _falling(cls, value: float, info: ValidationInfo) -> float:
        peak = info.data.get("lr")
        if peak is not None and value > peak:
            raise ValueError(f"a cosine falls, so its end is at most lr={peak}")
        return value


def check_warmup(config: OptimiserConfig, stage: Callable[[int, int], tuple[int, int]], steps: int) -> None:
    """Refuse a warm-up that a stage would not live to the end of.

    Args:
        config: Optimiser and rate.
        stage: First step and length of the stage that a step of so many belongs to.
        steps: Length of the run.

    Raises:
        SettingsError: If so.
    """
    begun, length = stage(0, steps)
    lengths = [length]
    while begun + length < steps:
        begun, length = stage(begun + length, steps)
        lengths.append(length)
    faults = warmup_faults(config, lengths)
    if faults:
        raise SettingsError("These settings are not valid:", faults)


def warmup_faults(config: OptimiserConfig, lengths: Iterable[int]) -> list[Fault]:
    """A fault where a stage would not live to the end of the warm-up.

    Args:
        config: Optimiser and rate.
        lengths: Steps of each stage; one at least.
    """
    shortest = min(lengths)
    if config.warmup < shortest:
        return []
    problem = f"must be shorter than every phase of the run: one has {shortest} steps, the warm-up {config.warmup}"
    remedy = f"Set it below {shortest}, or raise steps" if shortest > 1 else "Set it to 0, or raise steps"
    return [Fault(problem, "optimiser.warmup", remedy)]


def build_optimiser(
    config: OptimiserConfig,
    parameters: Iterable[Tensor],
    factors: Mapping[Tensor, float] | None = None,
    undecayed: Iterable[Tensor] = (),
) -> Optimizer:
    """The optimiser over these parameters; biases and normalisation are not decayed, SGD's momentum is Nesterov's.

    Args:
        config: Optimiser and rate.
        parameters: What to train; those without gradient are left out.
        factors: Parameters whose rate is a multiple of everyone's, e.g. those of a pre-trained encoder.
        undecayed: Further parameters without decay.
    """
    factors = factors or {}
    spared = set(undecayed)
    kinds: dict[tuple[float, bool], list[Tensor]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            decayed = parameter.dim() > 1 and parameter not in spared
            kinds.setdefault((factors.get(parameter, 1.0), decayed), []).append(parameter)
    groups = [
        {"params": members, "weight_decay": config.weight_decay if decayed else 0.0, FACTOR: factor}
        for (factor, decayed), members in sorted(kinds.items(), key=lambda kind: kind[0], reverse=True)
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
    """Give every group this rate times its own factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get(FACTOR, 1.0)
