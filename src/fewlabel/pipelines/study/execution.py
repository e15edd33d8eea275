"""Which executor does the jobs of a study, with how many workers and threads."""

from __future__ import annotations

import time
from collections.abc import Callable

from fewlabel.data.scan_inspection import cores
from fewlabel.pipelines.executors.job_progress import Glance
from fewlabel.pipelines.executors.jobs import Plan
from fewlabel.pipelines.executors.processes import run_in_processes
from fewlabel.pipelines.executors.ray_cluster import run_on_ray
from fewlabel.pipelines.executors.slurm import run_on_slurm
from fewlabel.pipelines.executors.this_process import run_here
from fewlabel.pipelines.study.grid import Grid
from fewlabel.pipelines.study.spec import Study, StudySettings
from fewlabel.pipelines.study.work import WORK


def workers_of(settings: StudySettings) -> int:
    """How many jobs are done at a time; of Ray, as far as is known before it is asked."""
    if settings.executor == "here":
        return 1
    return settings.workers or max(1, cores() // max(settings.threads, 1))


def threads_of(settings: StudySettings) -> int:
    """Threads of a job."""
    if settings.threads:
        return settings.threads
    if settings.executor == "here":
        import torch

        return int(torch.get_num_threads())
    return max(1, cores() // workers_of(settings)) if settings.executor == "processes" else 1


def plan_of(study: Study, grid: Grid) -> Plan:
    """The jobs of a study as an executor takes them."""
    settings = study.settings
    launch = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6:06d}"
    return Plan(settings.out.resolve(), WORK, grid.jobs, launch, threads_of(settings), settings.gpus)


def execute(study: Study, plan: Plan, watch: Callable[[Glance], None]) -> None:
    """Do all jobs of a study.

    Args:
        study: The study.
        plan: Its jobs.
        watch: Told now and then, and at the end, how far they are.

    Raises:
        RunStoppedError: If the user stopped it; what was done is kept.
        SettingsError: If the executor cannot work.
    """
    settings = study.settings
    path = plan.write()
    if settings.executor == "here":
        run_here(plan, watch)
    elif settings.executor == "processes":
        run_in_processes(plan, path, workers_of(settings), watch)
    elif settings.executor == "ray":
        run_on_ray(plan, path, settings.cluster, watch)
    else:
        run_on_slurm(plan, path, workers_of(settings), settings.slurm, watch)
