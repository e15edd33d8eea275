"""``train`` with stand-ins for its stages, and commands whose stage fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import write_text
from fewlabel.core.errors import DataError
from fewlabel.core.settings.base import Settings
from fewlabel.core.settings.value_syntax import merge
from fewlabel.data.store import PreparedStore
from fewlabel.engine import compiling
from fewlabel.pipelines import _train_settings, stage_table, step_timing, train
from fewlabel.pipelines.step_timing import Measured
from fewlabel.pipelines.time_budget_arithmetic import Cost
from kit.stores import make_store


class Stages:
    """Stands in for the real stages: leaves an artifact of the right kind and notes what it was asked."""

    def __init__(self, **store: Any) -> None:
        self.asked: list[tuple[str, Settings]] = []
        self.store = store
        self.fail = ""
        #: Networks on which steps were to be measured, and what they are said to take.
        self.measured: list[Any] = []
        self.costs = Measured(Cost("pretrain", 2.0, fixed=10.0), (Cost("finetune", 0.5), Cost("control", 0.5)), 60.0)

    @classmethod
    def instead(cls, monkeypatch: pytest.MonkeyPatch, **store: Any) -> Stages:
        """In place of the real ones, with a store as ``make_store`` makes it."""
        made = cls(**store)
        monkeypatch.setattr(train, "run_stage", made)
        monkeypatch.setattr(step_timing, "measure", made.measure)
        # Whatever machine this is.
        monkeypatch.setattr(compiling, "unpaid", lambda *machine: "not here")
        monkeypatch.delenv("WORLD_SIZE", raising=False)
        return made

    def __call__(self, name: str, settings: Any, **_: Any) -> Path:
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
        finish_artifact(out, stage_table.STAGES[name].kind, ["report.html"])
        return out

    def measure(self, plans: Any, store: PreparedStore, *, trains: bool, evaluates: bool) -> Measured:
        """Made-up costs, in proportion to the pixels of the store and the width of the network."""
        self.measured.append((plans, store.images.shape[2:]))
        network = plans["finetune"].network
        pixels = network.width * store.images.shape[2] * store.images.shape[3] // 16
        return Measured(
            self.costs.pretrain.on(pixels, 128**2) if "pretrain" in plans and self.costs.pretrain else None,
            tuple(cost.on(pixels, 128**2) for cost in self.costs.arms) if trains else (),
            self.costs.evaluation if evaluates else None,
            self.costs.shown,
        )

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.asked]


def go(out: Path, **values: Any) -> Path:
    """``train`` into a folder, of data beside it: all stages, supervised, as it is set unless a budget is given."""
    usual = {"budget": "off", "pretraining": True}
    values = merge({"finetune": {"regime": "supervised", "view": None}}, values)
    return train.run(train.train_settings({"data": out.parent / "raw", "out": out, **usual, **values}))


def failing_command(monkeypatch: pytest.MonkeyPatch, error: BaseException, *, columns: int = 80) -> Result:
    """``fewlabel report`` whose stage raises, in a terminal of so many columns."""

    def run(name: str, settings: Any) -> Path:
        raise error

    monkeypatch.setattr(stage_table, "run_stage", run)
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(app, ["report", "run", "--out", "r"])


@pytest.fixture
def whole_chain(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A default recipe in which all stages take part, the cheapest that do."""
    path = tmp_path_factory.mktemp("recipes") / "default.yaml"
    path.write_text(
        "budget: 1h\npretraining: true\npretrain_share: 0.25\npretrain: {method: gcl}\nfinetune: {regime: supervised}\n"
    )
    monkeypatch.setattr(_train_settings, "DEFAULT_RECIPE", str(path))
