"""What is shown of a study at work: its table so far, what is being done, and how long the rest will take."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import ArtifactError
from fewlabel.core.settings.durations import clock
from fewlabel.pipelines.executors.job_progress import Glance
from fewlabel.pipelines.executors.jobs import Job, Plan
from fewlabel.pipelines.study.grid import LEAVES, Cell, Grid
from fewlabel.pipelines.study.spec import Study
from fewlabel.pipelines.study.time_left import TimeLeft

#: Columns of the table, and of what it says of an arm at a number of labelled patients.
WIDTH, LEAST = 80, 12
#: Jobs at work that are shown by name.
SHOWN = 8
#: Bytes of a record that surely hold its last rows.
TAIL = 8192


class Board:
    """Turns a glance at a plan into lines of at most 80 columns.

    Args:
        study: The study.
        grid: Its grid.
        plan: Its jobs.
        time_left: Tells how long the rest will take.
    """

    def __init__(self, study: Study, grid: Grid, plan: Plan, time_left: TimeLeft) -> None:
        self._study, self._grid, self._plan, self._time = study, grid, plan, time_left
        self._jobs = {job.key: job for job in plan.jobs}
        self._dice: dict[str, float] = {}

    def status(self, glance: Glance) -> str:
        """One line: how many cells and jobs are done, and how long the rest will take."""
        cells = self._grid.cells
        done = sum(cell.evaluate in glance.done for cell in cells)
        words = [f"{done} of {len(cells)} cells", f"{len(glance.done)} of {len(self._jobs)} jobs"]
        words += [f"{len(glance.running)} at work"] if glance.running else []
        words += [f"{len(glance.failed)} failed"] if glance.failed else []
        left, whole = self._left(glance)
        if len(glance.done) + len(glance.failed) < len(self._jobs):
            words.append(f"{'' if whole else 'at least '}{clock(left)} left" if left else "time left unknown yet")
        return f"{self._study.settings.name}: {', '.join(words)}"

    def lines(self, glance: Glance) -> list[str]:
        """The table so far, the status, and the jobs at work."""
        shown = [f"  {self._at_work(self._jobs[key])}"[:80] for key in glance.running[:SHOWN] if key in self._jobs]
        return [*self.table(glance), "", self.status(glance), *shown]

    def table(self, glance: Glance) -> list[str]:
        """A row for each arm: for each number of labelled patients the cells done, and their mean Dice."""
        budgets = list(dict.fromkeys(cell.budget for cell in self._grid.cells))
        heads = [f"M={budget}" for budget in budgets]
        room = max(WIDTH - LEAST * len(budgets), LEAST)
        width = max(len("arm"), *(min(len(arm), 30, room) for arm in self._study.arms))
        each = min(14, max((WIDTH - width) // max(len(budgets), 1), LEAST))
        lines = [f"{'arm':<{width}}" + "".join(f"{head:>{each}}" for head in heads)]
        for arm in self._study.arms:
            words = [
                self._so_far([cell for cell in self._grid.cells if (cell.arm, cell.budget) == (arm, budget)], glance)
                for budget in budgets
            ]
            lines.append((f"{arm[:width]:<{width}}" + "".join(f"{word:>{each}}" for word in words)).rstrip())
        return lines

    def _so_far(self, cells: list[Cell], glance: Glance) -> str:
        if not cells:
            return ""
        done = [cell for cell in cells if cell.evaluate in glance.done]
        dice = [value for value in (self._dice_of(cell.evaluate) for cell in done) if value is not None]
        count = f"{len(done)}/{len(cells)}"
        return f"{statistics.fmean(dice):.3f} {count}" if dice else count

    def _dice_of(self, key: str) -> float | None:
        if key not in self._dice:
            # What is shown is no result: what is damaged is told when the tables are made.
            with suppress(ArtifactError, KeyError, TypeError, ValueError):
                summary = read_json(self._plan.folder(key) / LEAVES["evaluate"] / "summary.json")
                self._dice[key] = float(summary["arms"]["model"]["mean"]["dice"]["mean"])
        return self._dice.get(key)

    def _left(self, glance: Glance) -> tuple[float, bool]:
        at_work = [self._jobs[key] for key in glance.running if key in self._jobs]
        paces = {job.key: self._pace(job) for job in at_work}
        self._time.look(glance.done, {key: pace for key, pace in paces.items() if pace})
        shares = {job.key: self._share(job) for job in at_work}
        return self._time.left({*glance.done, *glance.failed}, glance.workers, shares)

    def _pace(self, job: Job) -> float:
        """Seconds that all steps of a job at work take at the pace of its last ones; 0 while none is on record."""
        _, steps = self._steps(job)
        # The first step sets up what others find.
        rows = [row for row in last_rows(self._record(job)) if row["step"]] if steps else []
        seconds = [row["seconds"] for row in rows if isinstance(row.get("seconds"), int | float)]
        return steps * statistics.median(seconds) if seconds else 0.0

    def _share(self, job: Job) -> float:
        step, steps = self._steps(job)
        return step / steps if steps else 0.0

    def _at_work(self, job: Job) -> str:
        step, steps = self._steps(job)
        return f"{job.title}: step {step} of {steps}" if steps else job.title

    def _steps(self, job: Job) -> tuple[int, int]:
        """The last step on record, and how many there will be; (0, 0) of what has none."""
        settings: Mapping[str, Any] = job.payload["settings"]
        if "steps" not in settings:
            return 0, 0
        return last_step(self._record(job)), int(settings["steps"])

    def _record(self, job: Job) -> Path:
        return self._plan.folder(job.key) / LEAVES[str(job.payload["stage"])] / "metrics.jsonl"


def last_step(path: Path) -> int:
    """The step of the last whole row of a record; 0 if there is none."""
    steps = [row["step"] for row in last_rows(path)]
    return steps[-1] if steps else 0


def last_rows(path: Path) -> list[dict[str, Any]]:
    """The last whole rows of a record of steps, as many as a few kilobytes hold."""
    if not path.is_file():
        return []
    with path.open("rb") as stream:
        stream.seek(max(path.stat().st_size - TAIL, 0))
        lines = stream.read().split(b"\n")
    rows = []
    for line in lines:
        # The first line may be half a row, the last one may not be whole yet.
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("step"), int):
                rows.append(row)
    return rows
