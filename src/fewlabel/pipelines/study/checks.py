"""Whether the prepared data have what every cell of a study asks for, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from fewlabel.core.errors import Fault, FewlabelError
from fewlabel.pipelines.study.grid import Cell, Grid, Planned
from fewlabel.pipelines.study.stores import Stores
from fewlabel.stages import evaluate, finetune, pretrain
from fewlabel.stages.finetune import LabelUse, PlannedEncoder

T = TypeVar("T")
#: Setting of a stage that the study gives → where the user says it.
_SAID = {"labelled": "budgets", "subjects": "budgets", "draw": "draws", "part": "evaluate.part"}


def check_grid(grid: Grid, stores: Stores) -> None:
    """Ask each stage whether its settings fit the data, cell by cell.

    Raises:
        FewlabelError: With the faults of all cells; the kind is that of the first.
    """
    errors: list[FewlabelError] = []
    asked: set[tuple[str, ...]] = set()
    for cell in grid.cells:
        if cell.keys in asked:
            continue
        asked.add(cell.keys)
        encoder = _ask(cell, errors, lambda cell=cell: planned_encoder(cell, grid, stores))  # type: ignore[misc]
        if cell.pretrain and encoder is None:
            continue
        labels = _ask(cell, errors, lambda cell=cell, encoder=encoder: label_use(cell, grid, stores, encoder))  # type: ignore[misc]
        if labels is not None:
            _ask(cell, errors, lambda cell=cell, labels=labels: _scores(cell, grid, stores, labels))  # type: ignore[misc]
    if errors:
        faults = list(dict.fromkeys(fault for error in errors for fault in error.faults))
        raise type(errors[0])("The study does not fit the data:", faults)


def planned_encoder(cell: Cell, grid: Grid, stores: Stores) -> PlannedEncoder | None:
    """The encoder that a cell will start from; None from scratch.

    Raises:
        FewlabelError: If its pre-training does not fit the data.
    """
    if not cell.pretrain:
        return None
    planned = grid.planned[cell.pretrain]
    labels: Any = planned.settings
    settings: Any = grid.planned[cell.finetune].settings
    learnt = None
    if labels.labelled is not None:
        store = stores.open(cell.store)
        learnt = finetune.check(settings.model_copy(update={"encoder": None}), store, user_network=())[1].draw.labelled
    return pretrain.check(labels, stores.open(planned.store), learnt)


def label_use(cell: Cell, grid: Grid, stores: Stores, encoder: PlannedEncoder | None) -> LabelUse:
    """What the labels of a cell serve for.

    Args:
        cell: The cell.
        grid: The grid.
        stores: The prepared data.
        encoder: What it will start from.

    Raises:
        FewlabelError: If its fine-tuning does not fit the data.
    """
    planned: Planned = grid.planned[cell.finetune]
    settings: Any = planned.settings
    return finetune.check(settings, stores.open(cell.store), encoder, user_network=())[1]


def _scores(cell: Cell, grid: Grid, stores: Stores, labels: LabelUse) -> None:
    settings: Any = grid.planned[cell.evaluate].settings
    evaluate.check(settings, stores.open(cell.store), labels.subjects)


def _ask(cell: Cell, errors: list[FewlabelError], check: Callable[[], T]) -> T | None:
    try:
        return check()
    except FewlabelError as error:
        faults = [_said(fault, cell) for fault in error.faults] or [Fault(error.message)]
        errors.append(type(error)(error.message, faults))
        return None


def _said(fault: Fault, cell: Cell) -> Fault:
    """A fault of a stage, at the setting of the study; else with the arm that it is of."""
    where = fault.where.split(".", maxsplit=1)[0]
    if where in _SAID:
        return replace(fault, where=_SAID[where])
    return replace(fault, where=f"arms.{cell.arm}: {fault.where}" if fault.where else f"arms.{cell.arm}")
