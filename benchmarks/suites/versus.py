"""Ours beside nnU-Net, MONAI and SSL4MIS: the same patients, the same wall time of two cores, the same scorer.

Every rival has its own command and process, as many threads, and the time of its cell for training: 20 and 60 minutes
at 1, 2 and 8 labelled patients of ACDC's split ``chaitanya``. nnU-Net also runs on our grid and batch, and there for
2000 steps however long they take: a rival that has not converged proves nothing. Ours has its time for the whole of
``fewlabel train``, preparation and all, without the control. Masks of the same 40 test scans are scored by the rules
of ``evaluate``. A row tells Dice, HD95, misses, images a second, steps, how the loss fell, the memory of the largest
process and the seconds of a test scan.

``--minutes`` makes other cells, on any data and with few test scans: a rehearsal, whose rows say so and stay in the
work folder. Stopped at any time, the suite goes on; nnU-Net and MONAI lose five minutes at most.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fewlabel
from common import append, facts
from suites import RESULTS
from suites.versus_arms import ARMS, STEPS, THREADS, Task, Trained
from suites.versus_scene import scene, scored

SUITE, SPLIT, DRAW = "versus", "chaitanya", 0
MINUTES, BUDGETS = (20, 60), (1, 2, 8)
#: Test scans of a rehearsal.
FEW = 2
#: Seconds of a step of nnU-Net on our grid on two cores, and of all that is no training in a cell, for the forecast.
STEP_SECONDS, BESIDE = 2.5, 600.0


@dataclass(frozen=True)
class Cell:
    """One row.

    Attributes:
        arm: Name of the rival.
        labelled: M.
        minutes: Budget of its training; of a rival with steps of its own, 0.
    """

    arm: str
    labelled: int
    minutes: float

    @property
    def key(self) -> tuple[str, int, float]:
        """What tells it apart."""
        return self.arm, self.labelled, self.minutes


def cells(arms: Iterable[str], minutes: Iterable[float] = MINUTES, budgets: Iterable[int] = BUDGETS) -> list[Cell]:
    """Short ones first; a rival with steps of its own once for each M."""
    asked, numbers = list(arms), list(budgets)
    timed = [
        Cell(arm, labelled, time) for time in minutes for labelled in numbers for arm in asked if not ARMS[arm].steps
    ]
    return timed + [Cell(arm, labelled, 0) for labelled in numbers for arm in asked if ARMS[arm].steps]


def run(data: Path, work: Path, results: Path, chosen: list[str], minutes: float = 0) -> None:
    """Run what is missing and append a row for each cell.

    Args:
        data: Folder of ACDC.
        work: Where runs are kept.
        results: Folder of the table.
        chosen: Arms; all if empty.
        minutes: Of a rehearsal with one labelled patient; 0 for the cells of the table.

    Raises:
        SystemExit: If an arm is unknown or a rival fails.
    """
    if unknown := [arm for arm in chosen if arm not in ARMS]:
        raise SystemExit(f"There is no arm {', '.join(unknown)}; there are {', '.join(ARMS)}.")
    folder = work / (f"{SUITE}-rehearsal" if minutes else SUITE)
    if minutes and results.resolve() == RESULTS:
        # What was only rehearsed is no result.
        results = folder
    path = results / f"{SUITE}.jsonl"
    wanted = cells(chosen or list(ARMS), (minutes,) if minutes else MINUTES, BUDGETS[:1] if minutes else BUDGETS)
    there = {key_of(row) for row in rows(path)}
    missing = [cell for cell in wanted if cell.key not in there]
    print(f"{len(missing)} of {len(wanted)} cells to make, about {hours(missing):.1f} hours of two cores.", flush=True)
    for cell in missing:
        append(path, row_of(cell, data, folder, rehearsal=bool(minutes)))


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def key_of(row: dict[str, Any]) -> tuple[str, int, float]:
    """As :attr:`Cell.key`."""
    return row["arm"], row["labelled"], row["minutes"]


def hours(missing: Iterable[Cell]) -> float:
    """What cells will take."""
    return sum((60 * cell.minutes or STEPS * STEP_SECONDS) + BESIDE for cell in missing) / 3600


def row_of(cell: Cell, data: Path, folder: Path, *, rehearsal: bool) -> dict[str, Any]:
    """Train, segment, score."""
    split = "auto" if rehearsal else SPLIT
    prepared = fewlabel.prepare(data=data, out=folder / "prepared", split=split)
    found = scene(prepared, folder, cell.labelled, DRAW, FEW if rehearsal else 0)
    out = folder / f"{cell.arm}-m{cell.labelled}-{cell.minutes:g}min"
    rival = ARMS[cell.arm]
    task = Task(found, data.resolve(), split, DRAW, out.resolve(), folder.resolve(), 60.0 * cell.minutes)
    trained = rival.train(task)
    started = time.monotonic()
    peak = rival.predict(task)
    predicting = time.monotonic() - started
    scores = scored(found, task.masks)
    return {
        "suite": SUITE,
        "arm": cell.arm,
        "doc": rival.doc,
        "split": split,
        "labelled": cell.labelled,
        "draw": DRAW,
        "minutes": cell.minutes,
        "rehearsal": rehearsal,
        **scores,
        **fallen(trained),
        "steps": trained.steps,
        "batch": trained.batch,
        "images_per_second": round(trained.steps * trained.batch / max(trained.seconds, 1e-9), 2),
        "seconds": round(trained.seconds, 1),
        "predict_seconds_of_a_scan": round(predicting / scores["test_scans"], 2),
        "peak_bytes": max(trained.peak, peak),
        "threads_asked": THREADS,
        "settings": trained.settings,
        **facts(),
    }


def fallen(trained: Trained) -> dict[str, float]:
    """Mean losses of the first tenth of a training, of the tenth before the last, and of the last."""
    losses, size = trained.losses, max(len(trained.losses) // 10, 1)
    parts = {"loss_first": losses[:size], "loss_before": losses[-2 * size : -size], "loss_last": losses[-size:]}
    return {name: round(statistics.fmean(part or losses), 4) for name, part in parts.items()}
