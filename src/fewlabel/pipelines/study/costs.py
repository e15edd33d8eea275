"""What the jobs of a study take: measured by a few steps of each kind of training, and kept in its folder."""

from __future__ import annotations

import hashlib
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import write_json
from fewlabel.core.progress import say, task
from fewlabel.core.provenance import machine_facts
from fewlabel.pipelines import step_timing
from fewlabel.pipelines.executors.claims import noted
from fewlabel.pipelines.executors.jobs import same_json
from fewlabel.pipelines.study.checks import label_use, planned_encoder
from fewlabel.pipelines.study.grid import Cell, Grid
from fewlabel.pipelines.study.stores import Stores
from fewlabel.pipelines.time_budget_arithmetic import Cost

FILE = "measured.json"
#: Settings in which jobs of one kind differ: they cost alike.
_ALIKE = frozenset(
    {"seed", "draw", "labelled", "subjects", "steps", "threads", "out", "data", "encoder", "segmenter", "resume"}
) | {"tracking"}
#: With more labelled patients than this, some are held out or left out unless it is said.
_FEW = 2


class Costs:
    """What jobs take on this machine.

    Args:
        folder: Of the study; what is measured is kept there.
        stores: The prepared data.
    """

    def __init__(self, folder: Path, stores: Stores) -> None:
        self._path = folder / FILE
        self._stores = stores
        machine = machine_facts()
        self._machine = {key: machine[key] for key in ("processor", "cores", "threads")}
        self._known: dict[str, dict[str, Any]] = {}
        self._kinds: dict[str, str] = {}
        # Another machine, or other threads, take another time; what is no record of times is measured anew.
        record = noted(self._path)
        if record.get("machine") == self._machine and isinstance(record.get("costs"), dict):
            self._known = {key: cost for key, cost in record["costs"].items() if _is_cost(cost)}

    def measure(self, grid: Grid, cells: Sequence[Cell]) -> None:
        """Take a few steps of each kind of training that was not measured before.

        Args:
            grid: The grid.
            cells: Whose trainings.

        Raises:
            FewlabelError: Whatever a step raises.
        """
        missing: dict[str, Cell] = {}
        for cell in cells:
            if any(self.kind(grid, key) not in self._known for key in cell.keys):
                missing.setdefault(same_json({"kinds": [self.kind(grid, key) for key in cell.keys]}), cell)
        if not missing:
            return
        say("Timing a few steps of each kind of training ...")
        with task("timing", len(missing)) as bar:
            for cell in missing.values():
                self._measure(grid, cell)
                write_json(self._path, {"machine": self._machine, "costs": self._known})
                bar.advance(note=cell.arm)

    def _measure(self, grid: Grid, cell: Cell) -> None:
        encoder = planned_encoder(cell.finetune, grid, self._stores)
        if cell.pretrain and self.kind(grid, cell.pretrain) not in self._known:
            planned = grid.planned[cell.pretrain]
            settings: Any = planned.settings
            cost = step_timing.pretraining_cost(settings, self._stores.open(planned.store))
            self._known[self.kind(grid, cell.pretrain)] = _plain(cost)
        labels = label_use(cell.finetune, grid, self._stores, encoder)
        learning: Any = grid.planned[cell.finetune].settings
        scoring: Any = grid.planned[cell.evaluate].settings
        costs, fit = step_timing.finetuning_costs(learning, labels, None if encoder is None else encoder.network)
        self._known[self.kind(grid, cell.finetune)] = _plain(costs[0])
        store = self._stores.open(cell.store)
        seconds = step_timing.evaluation_seconds(scoring, store, fit, learning.members)
        self._known[self.kind(grid, cell.evaluate)] = {"seconds": seconds}

    def kind(self, grid: Grid, key: str) -> str:
        """What kind of job one is: those of one kind cost alike, but for their steps.

        Raises:
            FewlabelError: If its settings do not fit the data.
        """
        if key not in self._kinds:
            self._kinds[key] = kind_of(grid, key, self._stores)
        return self._kinds[key]

    def cost(self, grid: Grid, key: str) -> Cost | None:
        """What the training of a job takes; None if it was not measured."""
        known = self._known.get(self.kind(grid, key))
        return None if known is None or "step" not in known else Cost(**known)

    def seconds(self, grid: Grid, key: str) -> float | None:
        """What a job takes; None if its kind was not measured."""
        known = self._known.get(self.kind(grid, key))
        if known is None:
            return None
        if "seconds" in known:
            return float(known["seconds"])
        cost, settings = self.cost(grid, key), grid.planned[key].settings
        return None if cost is None else cost.seconds(int(settings.steps))  # type: ignore[attr-defined]


def kind_of(grid: Grid, key: str, stores: Stores) -> str:
    """As :meth:`Costs.kind`."""
    planned = grid.planned[key]
    alike = _alike(grid, key, stores)
    if planned.stage == "finetune":
        labels = label_use(key, grid, stores, planned_encoder(key, grid, stores))
        alike["labels"] = [labels.selection, labels.left_out_fits]
    if planned.stage == "evaluate":
        alike["before"] = [_alike(grid, before, stores) for before in planned.needs]
    return _digest(alike)


def kind_by_settings(grid: Grid, key: str, stores: Stores) -> str:
    """What a job is without a look at its labels: what steps that were chosen are kept by."""
    planned = grid.planned[key]
    alike = _alike(grid, key, stores)
    if planned.stage == "finetune":
        alike["many"] = (planned.settings.record()["labelled"] or _FEW + 1) > _FEW
    if planned.stage == "evaluate":
        alike["before"] = [kind_by_settings(grid, before, stores) for before in planned.needs]
    return _digest(alike)


def _alike(grid: Grid, key: str, stores: Stores) -> dict[str, Any]:
    """Settings of a job that decide what it takes, its data, and the network that it starts from."""
    planned = grid.planned[key]
    alike: dict[str, Any] = {name: value for name, value in planned.settings.record().items() if name not in _ALIKE}
    alike |= {"stage": planned.stage, "store": stores.open(planned.store).manifest.content_hash}
    if planned.stage == "finetune":
        alike["before"] = [grid.planned[before].settings.record()["network"] for before in planned.needs]
    return alike


def _digest(alike: dict[str, Any]) -> str:
    return hashlib.sha256(same_json(alike).encode()).hexdigest()[:16]


def _is_cost(cost: Any) -> bool:
    """Whether a value is as :meth:`Costs.measure` writes them."""
    if not isinstance(cost, dict):
        return False
    numbers = {key: value for key, value in cost.items() if key != "name"}
    known = numbers.keys() == {"seconds"} or {"name", "step"} <= cost.keys() <= Cost.__dataclass_fields__.keys()
    return known and all(isinstance(value, int | float) for value in numbers.values())


def _plain(cost: Cost) -> dict[str, Any]:
    """As JSON-ready values, of which no other grid is asked."""
    return {key: value for key, value in asdict(cost).items() if key != "most_pixels"}


def typical(seconds: Sequence[float]) -> float | None:
    """The middle of some times; None of none."""
    return statistics.median(seconds) if seconds else None
