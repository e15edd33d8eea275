"""Checkpoints leave nothing behind: neither the last one of a finished run nor the parts that a kill left."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from fewlabel.engine.checkpoint import CHECKPOINT, Checkpointer


def checkpointer(folder: Path) -> Checkpointer:
    module = nn.Linear(2, 1)
    return Checkpointer(folder, {"seed": 0}, module, torch.optim.SGD(module.parameters(), lr=0.1))


def left_behind(folder: Path, name: str) -> Path:
    path = folder / f".{name}.aaaaaaaa.partial"
    path.write_bytes(b"0" * 100)
    return path


def test_the_next_checkpoint_clears_parts_of_the_last(tmp_path: Path) -> None:
    left_behind(tmp_path, CHECKPOINT)
    mine = left_behind(tmp_path, "best.safetensors")
    checkpointer(tmp_path).save(3, {"a": 1})
    assert {path.name for path in tmp_path.iterdir()} == {CHECKPOINT, mine.name}
    assert checkpointer(tmp_path).load() == (3, {"a": 1})


def test_a_finished_run_clears_the_parts_of_all_its_files(tmp_path: Path) -> None:
    saved = checkpointer(tmp_path)
    saved.save(3)
    for name in (CHECKPOINT, "best.safetensors", "encoder.json"):
        left_behind(tmp_path, name)
    (tmp_path / "encoder.json").write_text("{}")
    saved.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["encoder.json"]
