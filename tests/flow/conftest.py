"""What flow tests share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kit.segmenters import trained_run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on five scans, two of them annotated, as train leaves it; not to be changed."""
    return trained_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of that run, with its scans, which it finds where they lie beside it."""
    return Path(shutil.copytree(trained.parent, tmp_path / "home")) / "run"
