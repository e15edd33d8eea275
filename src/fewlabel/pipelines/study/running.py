"""A study from its settings to its tables: prepare, lay out the grid, do what is missing, compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import write_json
from fewlabel.core.errors import DataError, Fault, RunStoppedError, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say
from fewlabel.core.provenance import git_revision, library_versions, machine_facts
from fewlabel.engine.lock import sole_run
from fewlabel.pipelines.executors.claims import noted
from fewlabel.pipelines.executors.job_progress import Glance
from fewlabel.pipelines.executors.jobs import PLANS, STOPPED_BY_USER
from fewlabel.pipelines.study.arms import arm_plans
from fewlabel.pipelines.study.board import Board
from fewlabel.pipelines.study.execution import execute, threads_of
from fewlabel.pipelines.study.grid import Grid
from fewlabel.pipelines.study.layout import Laid, forecast_lines, lay_out
from fewlabel.pipelines.study.outputs import write_results
from fewlabel.pipelines.study.spec import Study

#: The file by which the folder of a study is known.
STUDY_FILE = "study.json"
SCHEMA = 1
#: Shows how far a study is: takes its board and a glance at its jobs.
Show = Callable[[Board, Glance], None]


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
            raise RunStoppedError(STOPPED_BY_USER) from None
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
    """Refuse a folder that holds something else than a study, or one of a later version.

    A study whose file was damaged is known by its jobs; the file is written anew.
    """
    record = noted(out / STUDY_FILE)
    if record.get("kind") == "study" or ((out / STUDY_FILE).is_file() and not record and (out / PLANS).is_dir()):
        if (version := record.get("schema_version", SCHEMA)) != SCHEMA:
            problem = f"{out} is a study of format {version}, and this version of fewlabel knows format {SCHEMA}"
            fault = Fault(problem, "out", "Use the version that began it, or give another --out")
            raise SettingsError("Nothing was written:", [fault])
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
        "settings": study.settings.record(study.folder),
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
