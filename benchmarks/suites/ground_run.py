"""Runs a ground suite: says how long it will take, then makes what is missing row by row."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import append
from fewlabel.core.artifact.files import MANIFEST
from suites.ground import Cell, Ground, keys_of, made, rows, wanted
from suites.ground_row import row_of


def run(ground: Ground, data: Path, work: Path, results: Path, chosen: list[str]) -> None:
    """Run what is missing and append a row for each cell.

    Args:
        ground: The suite.
        data: Folder of its data set.
        work: Where runs are kept.
        results: Folder of the table.
        chosen: Arms, or ``SPLIT/ARM``; all that choices are made on if empty: other splits have to be named.
    """
    path, folder = results / f"{ground.suite}.jsonl", work / ground.suite
    cells = wanted(ground, chosen)
    print("\n".join(forecast(ground, cells, rows(path), folder)), flush=True)
    for cell in cells:
        # Another process may share the work.
        if cell.key not in made(path):
            append(path, row_of(ground, cell, data, folder))


def forecast(ground: Ground, cells: Sequence[Cell], there: Sequence[Mapping[str, Any]], folder: Path) -> list[str]:
    """How many of the cells are to be made, by how many trainings that are not there yet, and about how many hours.

    Args:
        ground: The suite.
        cells: What is asked for.
        there: Rows so far.
        folder: Of the suite's runs.
    """
    keys = keys_of(there)
    missing = [cell for cell in cells if cell.key not in keys]
    places = {folder / ground.home(cell) / ground.training(cell) for cell in missing}
    count = sum(not (place / MANIFEST).is_file() for place in places)
    plan = f"{len(missing)} of {len(cells)} rows to make, by {count} trainings of {ground.units} supervised steps each."
    if not count:
        return [plan]
    took = [row["seconds"] for row in there]
    one = statistics.median(took) if took else ground.units * ground.unit_seconds
    source = "as the rows so far took" if took else f"at {ground.unit_seconds:g} s a supervised step of one core"
    return [plan, f"About {count * one / 3600:.1f} hours, {source}."]
