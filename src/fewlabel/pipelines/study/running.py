"""A study from its settings to its tables: prepare, lay out the grid, do what is missing, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.errors import DataError, Fault, RunStoppedError, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say
from fewlabel.core.provenance import git_revision, library_versions, machine_facts
from fewlabel.core.settings.durations import clock
from fewlabel.engine.lock import sole_run
from fewlabel.pipelines.executors.claims import is_done
from fewlabel.pipelines.executors.job_progress import Glance
from fewlabel.pipelines.executors.jobs import Plan
from fewlabel.pipelines.executors.worker import limit_threads
from fewlabel.pipelines.study.arms import arm_plans
from fewlabel.pipelines.study.board import Board
from fewlabel.pipelines.study.checks import check_grid
from fewlabel.pipelines.study.chosen_steps import choose_steps
from fewlabel.pipelines.study.costs import Costs
from fewlabel.pipelines.study.execution import execute, plan_of, threads_of, workers_of
from fewlabel.pipelines.study.grid import Grid, make_grid
from fewlabel.pipelines.study.outputs import write_results
from fewlabel.pipelines.study.published import published_of
from fewlabel.pipelines.study.spec import Study
from fewlabel.pipelines.study.stores import Stores
from fewlabel.pipelines.study.time_left import TimeLeft, whole_seconds

#: The file by which the folder of a study is known.
STUDY_FILE = "study.json"
SCHEMA = 1
#: Shows how far a study is: takes its board and a glance at its jobs.
Show = Callable[[Board, Glance], None]


@dataclass(frozen=True)
class Laid:
    """A study whose data are prepared and whose cells are known.

    Attributes:
        study: The study.
        grid: Its cells and jobs.
        plan: The jobs as an executor takes them.
        costs: What jobs take.
        time_left: Tells how long the rest will take.
    """

    study: Study
    grid: Grid
    plan: Plan
    costs: Costs
    time_left: TimeLeft

    @property
    def missing(self) -> list[str]:
        """Keys of jobs that are not done."""
        return [job.key for job in self.plan.jobs if not is_done(self.plan, job.key)]


def lay_out(study: Study) -> Laid:
    """Prepare the data of a study and lay out its cells, all of which are checked.

    Raises:
        SettingsError: If settings are wrong, or the folder of the study holds something else.
        FewlabelError: If data cannot be prepared, or do not have what cells ask for.
    """
    plans = arm_plans(study)
    published_of(study)
    stores = Stores(study)
    limit_threads(threads_of(study.settings))
    check_grid(make_grid(study, plans, stores, {}), stores)
    costs = Costs(study.folder, stores)
    grid = make_grid(study, plans, stores, choose_steps(study, plans, stores, costs))
    plan = plan_of(study, grid)
    return Laid(study, grid, plan, costs, TimeLeft(plan, grid, costs))


def dry_run(study: Study) -> list[str]:
    """The grid of a study and how long it would take, in lines; nothing is trained.

    The scans are prepared and a few steps of each kind of training are timed; both are kept for the run to come.

    Raises:
        FewlabelError: As :func:`lay_out`, and whatever a step raises.
    """
    with _own_folder(study):
        laid = lay_out(study)
        _write_study(study, laid.grid)
        keys = set(laid.missing)
        laid.costs.measure(laid.grid, [cell for cell in laid.grid.cells if keys & set(cell.keys)])
    return forecast_lines(laid)


def forecast_lines(laid: Laid) -> list[str]:
    """The grid, how many jobs are missing of each stage, and how long all of them will take."""
    done = frozenset(key for key in (job.key for job in laid.plan.jobs) if key not in set(laid.missing))
    glance = Glance(done, (), {}, len(laid.missing), workers_of(laid.study.settings))
    lines = [*Board(laid.study, laid.grid, laid.plan, laid.time_left).table(glance), ""]
    laid.time_left.look(done)
    jobs = [job for job in laid.plan.jobs if job.key not in done]
    seconds = {job.key: laid.time_left.of(job) or 0.0 for job in jobs}
    for stage in ("pretrain", "finetune", "evaluate"):
        keys = [job.key for job in jobs if laid.grid.planned[job.key].stage == stage]
        there = sum(laid.grid.planned[key].stage == stage for key in done)
        if keys or there:
            spent = sum(seconds[key] for key in keys)
            lines.append(f"{stage:<9} {len(keys):>5} to do, {there:>5} done, {clock(spent):>9} of one worker")
    whole = whole_seconds(jobs, seconds, glance.workers)
    by = "one worker" if glance.workers == 1 else f"{glance.workers} workers"
    lines.append(f"all of it: about {clock(whole)} by {by} of {_threads(laid.plan.threads)}")
    return lines


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


def run(study: Study, show: Show | None = None) -> Path:
    """Do what is missing of a study, and write its tables.

    Args:
        study: The study.
        show: Shows how far it is; None for nobody.

    Returns:
        The folder of the study; its tables are in ``results``.

    Raises:
        SettingsError: If settings are wrong, or the folder holds something else; nothing was trained then.
        RunStoppedError: If the user stopped it; what is done is kept, and its tables are written.
        DataError: If some jobs failed; the others are done, and the tables are written without them.
        FewlabelError: If data cannot be prepared, or do not have what cells ask for.
    """
    with _own_folder(study):
        laid = lay_out(study)
        _write_study(study, laid.grid)
        board = Board(study, laid.grid, laid.plan, laid.time_left)
        failed: dict[str, str] = {}

        def watch(glance: Glance) -> None:
            failed.update(glance.failed)
            if show is not None:
                show(board, glance)

        if kept := len(laid.plan.jobs) - len(laid.missing):
            say(f"{kept} of {len(laid.plan.jobs)} jobs are done and kept.")
        try:
            execute(study, laid.plan, watch)
        except KeyboardInterrupt:
            raise RunStoppedError("Stopped; what is done is kept, repeat the command to go on.") from None
        finally:
            write_results(study, laid.grid)
        _write_study(study, laid.grid, finished=not laid.missing)
    _tell_failures(laid, failed)
    return study.folder


def _tell_failures(laid: Laid, failed: dict[str, str]) -> None:
    titles = {job.key: job.title for job in laid.plan.jobs}
    own = {key: why for key, why in failed.items() if key in titles and not why.startswith("needs ")}
    if own:
        faults = [Fault(why.strip(), titles[key], "The same command tries it again") for key, why in own.items()]
        raise DataError(f"{len(failed)} jobs failed or need one that did; the tables are of the others:", faults)


@contextmanager
def _own_folder(study: Study) -> Iterator[None]:
    """Keep the folder of a study to this process; it is known as one from now on."""
    _refuse_other_folder(study.folder)
    arm_plans(study)
    with sole_run(study.folder, lambda: _refuse_other_folder(study.folder)):
        if not (study.folder / STUDY_FILE).is_file():
            _write_study(study)
        yield


def _refuse_other_folder(out: Path) -> None:
    """Refuse a folder that holds something else than a study."""
    if (out / STUDY_FILE).is_file() and read_json(out / STUDY_FILE).get("kind") == "study":
        return
    obstacle = path_conflict(out)
    if obstacle:
        fault = Fault(conflict_sentence(out, obstacle), "out", "Give another --out, or that of the study to go on with")
        raise SettingsError("Nothing was written:", [fault])


def _write_study(study: Study, grid: Grid | None = None, *, finished: bool = False) -> None:
    record: dict[str, Any] = {
        "kind": "study",
        "schema_version": SCHEMA,
        "finished": finished,
        "settings": study.settings.record(),
        "cells": [
            {"arm": cell.arm, "labelled": str(cell.budget), "draw": cell.draw, "seed": cell.seed, "jobs": cell.keys}
            for cell in (grid.cells if grid else ())
        ],
        "threads": threads_of(study.settings),
        "versions": library_versions(),
        "machine": machine_facts(),
        "revision": git_revision(),
    }
    write_json(study.folder / STUDY_FILE, record)
