"""The jobs of a plan by an array of SLURM jobs, each of which is a worker; submitted by submitit."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, RunStoppedError, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.stop_signals import stopping_on_signals
from fewlabel.pipelines.executors.claims import at_work
from fewlabel.pipelines.executors.job_progress import Glance, Standing, glance
from fewlabel.pipelines.executors.jobs import Plan
from fewlabel.pipelines.executors.worker import limit_threads, work_through

FOLDER = "slurm"
#: Seconds between two looks at the jobs: the disk is shared by all machines.
LOOK_EVERY = 2.0
#: Parameters that submitit knows for every scheduler; all others are those of sbatch.
SHARED = frozenset({"timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "name"})


@dataclass(frozen=True)
class Worker:
    """A worker of the plan in a file, as submitit calls it; one whose time is over is queued again.

    Attributes:
        path: The file.
    """

    path: Path

    def __call__(self) -> None:
        """Do jobs until none is left."""
        plan = Plan.read(self.path)
        limit_threads(plan.threads)
        work_through(plan)

    def checkpoint(self) -> Any:
        """What is queued in place of one that is ended: another worker, as the folders hold all there is to know."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_on_slurm(
    plan: Plan,
    path: Path,
    workers: int,
    parameters: Mapping[str, Any],
    watch: Callable[[Glance], None],
    *,
    scheduler: str = "slurm",
) -> None:
    """Submit an array of workers and watch them; Ctrl-C and SIGTERM end the watching alone.

    Args:
        plan: The plan.
        path: Its file.
        workers: Jobs of the array.
        parameters: Of sbatch, such as ``partition``, and ``timeout_min``, ``mem_gb``.
        watch: Told now and then, and at the end, how far the jobs are.
        scheduler: ``slurm``, or ``local`` for processes of this machine in its place.

    Raises:
        SettingsError: If submitit is not installed, there is no SLURM, or a parameter is unknown.
        RunStoppedError: After Ctrl-C or SIGTERM: the array goes on.
    """
    standing = Standing(plan)
    standing.refresh()
    if not standing.settled():
        array = _submit(plan, path, min(workers, len(standing.open())), parameters, scheduler)
        name = str(array[0].job_id).split("_")[0]
        say(f"Submitted {len(array)} workers as job {name}; they write to {plan.root / FOLDER}.")
        try:
            with stopping_on_signals():
                _watch(plan, standing, array, watch)
        except KeyboardInterrupt:
            told = f"The workers go on: scancel {name} ends them, the same command watches and adds others."
            raise RunStoppedError(told) from None
    watch(glance(standing, (), workers))


def _watch(plan: Plan, standing: Standing, array: list[Any], watch: Callable[[Glance], None]) -> None:
    while not standing.settled():
        time.sleep(LOOK_EVERY)
        over = all(job.done() for job in array)
        standing.refresh()
        running = [job.key for job in standing.open() if at_work(plan, job)]
        watch(glance(standing, running, len(array)))
        if over and not standing.settled():
            raise SettingsError("The jobs were given up:", [_ended(array, plan)])


def _submit(plan: Plan, path: Path, workers: int, parameters: Mapping[str, Any], scheduler: str) -> list[Any]:
    try:
        import submitit
    except ImportError as error:
        fault = Fault("submitit is not installed", "executor", 'Run pip install "fewlabel[cluster]"')
        raise SettingsError("These settings are not valid:", [fault]) from error
    if scheduler == "slurm" and not submitit.SlurmExecutor.affinity() > 0:
        fault = Fault("this machine has no sbatch", "executor", "Run the command where jobs are submitted")
        raise SettingsError("These settings are not valid:", [fault])
    executor = submitit.AutoExecutor(folder=plan.root / FOLDER, cluster=scheduler)
    usual = {"name": "fewlabel", "cpus_per_task": plan.threads}
    usual |= {"gpus_per_node": max(1, round(plan.gpus))} if plan.gpus else {}
    asked = {key if key in SHARED else f"slurm_{key}": value for key, value in parameters.items()}
    try:
        executor.update_parameters(**{**usual, **asked})
    except NameError as error:
        fault = Fault(f"submitit does not take these parameters: {error}", "slurm", "Name them as sbatch does")
        raise SettingsError("These settings are not valid:", [fault]) from error
    with executor.batch():
        return [executor.submit(Worker(path)) for _ in range(workers)]


def _ended(array: list[Any], plan: Plan) -> Fault:
    """Why no worker is left."""
    words = [line for job in array for line in (job.stderr() or "").strip().splitlines()[-1:]]
    last = f"; the last words of one: {words[-1]}" if words else ""
    return Fault(f"all workers have ended{last}", remedy=f"See {plan.root / FOLDER}, and repeat the command to go on")
