"""A small pre-training that several processes share out."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.stores import make_store

TINY = ["network.width=4", "network.depth=3", "device=cpu", "precision=32", "log_every=1", "steps=8"]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("lost") / "prepared", subjects=6, depth=5, size=(32, 32))


@pytest.fixture
def words(store: Path) -> list[str]:
    return ["pretrain", str(store), "method=simclr", "method.centre=false", "batch=8", "checkpoint_seconds=0", *TINY]
