"""Whether the prepared data have what every cell of a study asks for, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Collection
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


def check_grid(grid: Grid, stores: Stores, steps_open: Collection[str] = ()) -> None:
    """Ask each stage whether its settings fit the data, cell by cell.

    Args:
        grid: The grid.
        stores: The prepared data.
        steps_open: Arms whose steps of fine-tuning are chosen later.

    Raises:
        FewlabelError: With the faults of all cells; the kind is that of the first.
    """
    errors: list[FewlabelError] = []
    asked: set[tuple[str, ...]] = set()
    for cell in grid.cells:
        if cell.keys in asked:
            continue
        asked.add(cell.keys)
        encoder = _ask(cell, errors, lambda key=cell.finetune: planned_encoder(key, grid, stores))  # type: ignore[misc]
        if cell.pretrain and encoder is None:
            continue
        open_ = cell.arm in steps_open
        labels = _ask(cell, errors, _learns(cell.finetune, grid, stores, encoder, steps_open=open_))
        if labels is not None:
            _ask(cell, errors, lambda cell=cell, labels=labels: _scores(cell, grid, stores, labels))  # type: ignore[misc]
    if errors:
        faults = list(dict.fromkeys(fault for error in errors for fault in error.faults))
        raise type(errors[0])("The study does not fit the data:", faults)


def planned_encoder(key: str, grid: Grid, stores: Stores) -> PlannedEncoder | None:
    """The encoder that a fine-tuning will start from; None from scratch.

    Args:
        key: Of the job of the fine-tuning.
        grid: The grid.
        stores: The prepared data.

    Raises:
        FewlabelError: If its pre-training does not fit the data.
    """
    tuning: Planned = grid.planned[key]
    if not tuning.needs:
        return None
    planned = grid.planned[tuning.needs[0]]
    labels: Any = planned.settings
    settings: Any = tuning.settings
    learnt = None
    if labels.labelled is not None:
        alone = settings.model_copy(update={"encoder": None})
        learnt = finetune.check(alone, stores.open(tuning.store), user_network=(), steps_open=True)[1].draw.labelled
    return pretrain.check(labels, stores.open(planned.store), learnt)


def label_use(
    key: str, grid: Grid, stores: Stores, encoder: PlannedEncoder | None, *, steps_open: bool = True
) -> LabelUse:
    """What the labels of a fine-tuning serve for.

    Args:
        key: Of its job.
        grid: The grid.
        stores: The prepared data.
        encoder: What it will start from.
        steps_open: Whether its steps may still be others.

    Raises:
        FewlabelError: If it does not fit the data.
    """
    planned: Planned = grid.planned[key]
    settings: Any = planned.settings
    return finetune.check(settings, stores.open(planned.store), encoder, user_network=(), steps_open=steps_open)[1]


def _learns(
    key: str, grid: Grid, stores: Stores, encoder: PlannedEncoder | None, *, steps_open: bool
) -> Callable[[], LabelUse]:
    return lambda: label_use(key, grid, stores, encoder, steps_open=steps_open)


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
