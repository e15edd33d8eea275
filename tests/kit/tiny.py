"""Settings of runs that take seconds: a tiny network on small synthetic hearts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fewlabel.stages import predict
from fewlabel.stages.finetune import FinetuneSettings
from fewlabel.stages.prepare import CheckReport, PrepareSettings, check
from fewlabel.stages.pretrain import PretrainSettings

NETWORK = {"width": 4, "depth": 3}


def checked(data: Path, **over: Any) -> CheckReport:
    """What ``check`` finds of a data set."""
    return check(PrepareSettings.parse({"data": data, "out": data.parent / "unused", **over}))


def pretrain_settings(data: Path, out: Path, **over: Any) -> PretrainSettings:
    """Settings of a short pre-training run; ``over`` replaces any of them."""
    values: dict[str, Any] = {
        "data": data,
        "out": out,
        "method": "gcl",
        "network": NETWORK,
        "optimiser": {"name": "adamw", "lr": 1e-3},
        "steps": 6,
        "batch": 8,
        "device": "cpu",
        "precision": "32",
        "log_every": 1,
    }
    return PretrainSettings.parse({**values, **over})


def finetune_settings(data: Path, out: Path, **over: Any) -> FinetuneSettings:
    """Settings of a short fine-tuning run; ``over`` replaces any of them."""
    values: dict[str, Any] = {
        "data": data,
        "out": out,
        "network": NETWORK,
        "steps": 6,
        "batch": 4,
        "validate_every": 2,
        "device": "cpu",
        "precision": "32",
        "log_every": 1,
    }
    return FinetuneSettings.parse({**values, **over})


def run_predict(model: Path, scans: Path, out: Path, **over: Any) -> Path:
    """``predict`` on the CPU."""
    return predict.run(
        predict.PredictSettings.parse({"model": model, "scans": scans, "out": out, "device": "cpu", **over})
    )
