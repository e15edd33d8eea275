"""``train`` with stand-ins for its stages, and commands whose stage fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core.artifact import finish_artifact, write_text
from fewlabel.core.config import Settings
from fewlabel.core.errors import DataError
from fewlabel.pipelines import stages, train
from kit.stores import make_store


class Stages:
    """Stands in for the real stages: leaves an artifact of the right kind and notes what it was asked."""

    def __init__(self, **store: Any) -> None:
        self.asked: list[tuple[str, Settings]] = []
        self.store = store
        self.fail = ""

    @classmethod
    def instead(cls, monkeypatch: pytest.MonkeyPatch, **store: Any) -> Stages:
        """In place of the real ones, with a store as ``make_store`` makes it."""
        made = cls(**store)
        monkeypatch.setattr(train, "run_stage", made)
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        return made

    def __call__(self, name: str, settings: Any) -> Path:
        self.asked.append((name, settings))
        if name == self.fail:
            raise DataError(f"{name} failed")
        out = Path(settings.out)
        if (out / "manifest.json").is_file():
            return out
        if name == "prepare":
            return make_store(out, **{"subjects": 4, "depth": 3, "size": (16, 16), **self.store})
        out.mkdir(parents=True)
        write_text(out / "report.html", "")
        finish_artifact(out, stages.STAGES[name].kind, ["report.html"])
        return out

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


def go(out: Path, **values: Any) -> Path:
    """``train`` into a folder, of data beside it."""
    return train.run(train.train_settings({"data": out.parent / "raw", "out": out, **values}))


def failing_command(monkeypatch: pytest.MonkeyPatch, error: BaseException, *, columns: int = 80) -> Result:
    """``fewlabel report`` whose stage raises, in a terminal of so many columns."""

    def run(name: str, settings: Any) -> Path:
        raise error

    monkeypatch.setattr(stages, "run_stage", run)
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["report", "run", "--out", "r"])
