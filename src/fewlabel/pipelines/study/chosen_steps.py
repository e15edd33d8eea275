"""Steps of arms that have minutes: chosen once by what steps take here, and kept, so that a study goes on the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.progress import say
from fewlabel.pipelines import time_budget_arithmetic
from fewlabel.pipelines.executors.jobs import same_json
from fewlabel.pipelines.study.arms import ArmPlan
from fewlabel.pipelines.study.costs import Costs, kind_by_settings
from fewlabel.pipelines.study.grid import Cell, Grid, make_grid
from fewlabel.pipelines.study.spec import Study
from fewlabel.pipelines.study.stores import Stores

FILE = "steps.json"


def choose_steps(study: Study, plans: Mapping[str, ArmPlan], stores: Stores, costs: Costs) -> dict[str, dict[str, int]]:
    """Arm → stage → steps, of the arms that have minutes; those that were chosen before stay.

    A training of an arm with the fewest labelled patients of its budgets gets the arm's minutes: its pre-training a
    share of them, fine-tuning what is left, the evaluation beside. Trainings with more patients take as many steps,
    and longer where patients are held or left out. Steps that are set stand.

    Args:
        study: The study.
        plans: Arm → its stages.
        stores: The prepared data.
        costs: Measures what is not known.

    Raises:
        FewlabelError: Whatever a step raises.
    """
    timed = {name: plan for name, plan in plans.items() if study.minutes_of(name) is not None}
    if not timed:
        return {}
    path = study.folder / FILE
    kept = _kept(path)
    grid = make_grid(study, timed, stores, {})
    chosen = {}
    for name, plan in timed.items():
        cell = next(cell for cell in grid.cells if cell.arm == name)
        minutes = study.minutes_of(name) or 0.0
        given = _given(plan)
        key = _key(grid, cell, stores, {"minutes": minutes, "share": study.settings.pretrain_share, "given": given})
        if key not in kept:
            costs.measure(grid, [cell])
            kept[key] = _share(grid, cell, costs, 60.0 * minutes, given, study.settings.pretrain_share)
            write_json(path, kept)
            words = " and ".join(f"{stage}.steps={count}" for stage, count in kept[key].items())
            say(f"{name}: {minutes:g} minutes are {words or 'what its steps are set to'}.")
        chosen[name] = kept[key]
    return chosen


def open_arms(study: Study, plans: Mapping[str, ArmPlan]) -> frozenset[str]:
    """Arms whose steps of fine-tuning are to be chosen.

    Args:
        study: The study.
        plans: Arm → its stages.
    """
    timed = (name for name in plans if study.minutes_of(name) is not None)
    return frozenset(name for name in timed if "finetune" not in _given(plans[name]))


def _kept(path: Path) -> dict[str, dict[str, int]]:
    """Steps that were chosen before.

    Raises:
        ArtifactError: If the file is damaged: other steps would be other trainings.
    """
    kept = read_json(path) if path.is_file() else {}
    whole = isinstance(kept, dict) and all(isinstance(steps, dict) for steps in kept.values())
    if whole and all(isinstance(count, int) for steps in kept.values() for count in steps.values()):
        return dict(kept)
    remedy = "Delete it to have steps chosen anew, and the arms that have minutes trained again"
    raise ArtifactError("The study cannot go on:", [Fault(f"{path} does not hold steps of arms", remedy=remedy)])


def _given(plan: ArmPlan) -> dict[str, int]:
    """Stage → steps that are set."""
    asked = {"pretrain": plan.pretrain or {}, "finetune": plan.finetune}
    return {stage: int(values["steps"]) for stage, values in asked.items() if values.get("steps") is not None}


def _key(grid: Grid, cell: Cell, stores: Stores, asked: Mapping[str, Any]) -> str:
    what = {**asked, "kinds": [kind_by_settings(grid, key, stores) for key in cell.keys]}
    return hashlib.sha256(same_json(what).encode()).hexdigest()[:16]


def _share(
    grid: Grid, cell: Cell, costs: Costs, seconds: float, given: Mapping[str, int], share: float
) -> dict[str, int]:
    pretrain = costs.cost(grid, cell.pretrain) if cell.pretrain else None
    finetune = costs.cost(grid, cell.finetune)
    if finetune is None:
        raise ValueError(f"the training of {cell.arm} was not measured")
    steps = time_budget_arithmetic.share_out(seconds, pretrain, [finetune], share=share, given=given)
    counts = {"pretrain": steps.pretrain, "finetune": steps.finetune}
    return {stage: count for stage, count in counts.items() if count is not None and stage not in given}
