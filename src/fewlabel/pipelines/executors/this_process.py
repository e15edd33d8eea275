"""The jobs of a plan in this process, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fewlabel.core.errors import RunStoppedError
from fewlabel.core.stop_signals import stopping_on_signals
from fewlabel.pipelines.executors.job_progress import Glance, Standing, glance
from fewlabel.pipelines.executors.jobs import STOPPED_BY_USER, Job, Plan
from fewlabel.pipelines.executors.worker import limit_threads, work_through

#: Seconds between two looks at how far the jobs are.
LOOK_EVERY = 1.0


def run_here(plan: Plan, watch: Callable[[Glance], None]) -> None:
    """Do all jobs of a plan.

    Args:
        plan: The plan.
        watch: Told now and then, and at the end, how far they are; from another thread.

    Raises:
        RunStoppedError: After Ctrl-C or SIGTERM; a training has saved its state.
        KeyboardInterrupt: After Ctrl-C between trainings.
        SettingsError: If the file system has no locks.
    """
    limit_threads(plan.threads)
    running: list[str] = []
    over = threading.Event()

    def begins(job: Job | None) -> None:
        running[:] = [] if job is None else [job.key]

    def look() -> None:
        standing = Standing(plan)
        while True:
            standing.refresh()
            watch(glance(standing, tuple(running), 1))
            if over.wait(LOOK_EVERY):
                break

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        with stopping_on_signals():
            work_through(plan, begins=begins)
    except RunStoppedError:
        # A stage names an option of its own command.
        raise RunStoppedError(STOPPED_BY_USER) from None
    finally:
        over.set()
        watcher.join()
    standing = Standing(plan)
    standing.refresh()
    watch(glance(standing, (), 1))
