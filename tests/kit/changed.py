"""Prepared folders and encoders with facts of a test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.engine.weight_files import save_encoder
from fewlabel.nets.unet import UNetConfig, UNetEncoder
from kit.stores import FILES


def with_facts(store: Path, name: str, **facts: Any) -> Path:
    """The same prepared folder, a JSON file of it changed and its manifest true again."""
    write_json(store / name, {**read_json(store / name), **facts})
    finish_artifact(store, "prepared", FILES)
    return store


def encoder_that_saw(folder: Path, prepared: Path, subjects: tuple[str, ...], **network: int) -> Path:
    """An untrained encoder that says it learnt from the labels of these subjects."""
    folder.mkdir(parents=True)
    torch.manual_seed(0)
    save_encoder(
        folder, UNetEncoder(UNetConfig(**{"width": 4, "depth": 3, **network})), {"labelled_subjects": subjects}
    )
    finish_artifact(folder, "encoder", ["encoder.json", "encoder.safetensors"], parents=[prepared])
    return folder
