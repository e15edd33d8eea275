"""The grid of a run with a budget: as fine as leaves time for enough steps, by steps on made-up slices."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fewlabel.core.errors import DataError, SettingsError
from fewlabel.core.progress import say
from fewlabel.data.grid_extent_and_spacing import LARGEST_SIZE, SIZE_STEP, Grid
from fewlabel.data.pixel_grid_plan import grid_of
from fewlabel.data.store import PreparedStore
from fewlabel.pipelines import step_timing, time_budget_arithmetic
from fewlabel.pipelines._synthetic_store import write_stand_in
from fewlabel.stages.prepare import CheckReport, check, plan_of

Plans = Mapping[str, Any]


def choose_grid(plans: Plans, seconds: float, *, share: float, given: Mapping[str, int]) -> Grid | None:
    """The grid to prepare with; None where the data have faults, which preparing tells.

    It is the one that ``prepare`` would choose, or a coarser one where that leaves too few steps: not where its size or
    spacing is set, nor for volumes, whose patches cost the same on any grid.

    Args:
        plans: Settings of the stages that take part.
        seconds: Time for all trainings.
        share: Of pre-training.
        given: Stage → steps that are not to be chosen.

    Raises:
        SettingsError: If there is no such reader or split.
    """
    prepared = plans["prepare"]
    report = check(prepared)
    if report.faults or report.plan is None:
        return None
    grids = _grids(report, plans)
    stages = [name for name in ("pretrain", "finetune") if name in plans]
    if len(grids) == 1 or all(stage in given for stage in stages):
        return grids[0]
    say("Timing a few steps on made-up slices to choose the grid ...")
    try:
        pretrain, arms = _costs(report, plans, grids[-1])
    except (SettingsError, DataError):
        # Told in the words of the stage that meets it.
        return grids[0]
    pixels = [math.prod(grid.size) for grid in grids]
    return grids[time_budget_arithmetic.finest(pixels, pixels[-1], seconds, pretrain, arms, share=share, given=given)]


def _grids(report: CheckReport, plans: Plans) -> list[Grid]:
    """The grids to choose from, the finest first."""
    prepared, learner = plans["prepare"], plans.get("pretrain", plans["finetune"])
    step = math.lcm(SIZE_STEP, learner.network.stride if "depth" in learner.network.model_fields_set else 1)
    wanted = {"spacing": prepared.spacing, "size": prepared.size}
    first = _grid(report, prepared.slice_axis, step, wanted)
    grids = [first]
    if plans["finetune"].patch is None and prepared.spacing is None and prepared.size is None:
        for factor in time_budget_arithmetic.coarser(first.spacing, first.median, first.thinnest)[1:]:
            spacing = [float(f"{factor * value:.4g}") for value in first.spacing]
            coarse = _grid(report, prepared.slice_axis, step, {"spacing": spacing, "size": None})
            if math.prod(coarse.size) < math.prod(grids[-1].size):
                grids.append(coarse)
    return grids


def _grid(report: CheckReport, slice_axis: str, step: int, wanted: Mapping[str, Any]) -> Grid:
    """A grid whose sides the network can halve as often as it is set to."""
    if report.labels is None or report.split is None:
        raise ValueError("a plan is made of labels and a split")
    grid = grid_of(report.facts, report.labels, report.split, slice_axis=slice_axis, **wanted)
    if wanted["size"] is not None:
        return grid
    height, width = (min(LARGEST_SIZE, step * math.ceil(side / step)) for side in grid.size)
    return replace(grid, size=(height, width))


def _costs(
    report: CheckReport, plans: Plans, grid: Grid
) -> tuple[time_budget_arithmetic.Cost | None, Sequence[time_budget_arithmetic.Cost]]:
    """What pre-training takes on a grid, and fine-tuning with its control."""
    if report.catalog is None or report.labels is None or report.split is None:
        raise ValueError("a plan is made of a catalog, labels and a split")
    on_grid = plans["prepare"].model_copy(update={"spacing": grid.spacing, "size": grid.size})
    plan = plan_of(on_grid, report.catalog, report.facts, report.labels, report.split)
    with TemporaryDirectory(prefix="fewlabel-") as folder:
        place = write_stand_in(Path(folder) / "prepared", report.catalog, report.facts, report.split, plan)
        # Which grid is quicker shows without compiling each.
        update = {"data": place, "compile": False}
        there = {
            name: values.model_copy(update=update) if name in ("pretrain", "finetune") else values
            for name, values in plans.items()
        }
        store = PreparedStore(place)
        trains = len(store.slices_of(store.split["parts"].get("train", []), labelled=True)) > 0
        costs = step_timing.measure(there, store, trains=trains, evaluates=False)
    return costs.pretrain, costs.arms
