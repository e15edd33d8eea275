"""A worker: does one ready job after the other until none is left; as many as there are share the jobs by locks."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from fewlabel.core.errors import FewlabelError, RunStoppedError
from fewlabel.core.stop_signals import stopping_on_signals
from fewlabel.pipelines.executors.claims import MOST_DEATHS, claimed, deaths, fail, finish, is_done, note
from fewlabel.pipelines.executors.job_progress import Standing
from fewlabel.pipelines.executors.jobs import Job, Plan, Work

#: Seconds to wait where all ready jobs are in other hands.
PATIENCE = 0.2
STOPPED = 130


def work_through(plan: Plan, *, begins: Callable[[Job | None], None] = lambda _: None) -> None:
    """Do what is ready and in nobody's hands, until all is done or has failed.

    Args:
        plan: The plan.
        begins: Told of each job that is begun here, and of None once it is over.

    Raises:
        RunStoppedError: After Ctrl-C or SIGTERM; a training has saved its state.
        KeyboardInterrupt: After Ctrl-C between trainings.
        SettingsError: If the file system has no locks.
    """
    work, standing = plan.worker(), Standing(plan)
    while True:
        for job in standing.ready():
            with claimed(plan, job) as ours:
                if not ours or is_done(plan, job.key):
                    continue
                begins(job)
                try:
                    attempt(plan, job, work)
                finally:
                    begins(None)
                break
        else:
            if standing.settled():
                return
            time.sleep(PATIENCE)


def attempt(plan: Plan, job: Job, work: Work) -> None:
    """Do a job that was claimed, and say how it went.

    Raises:
        RunStoppedError: If the user stopped it.
        KeyboardInterrupt: Likewise.
    """
    killed = deaths(plan, job.key)
    if killed >= MOST_DEATHS:
        fail(plan, job, f"its process was killed {killed} times; the machine may be short of memory")
        return
    note(plan, job, "began")
    started = time.monotonic()
    try:
        work(plan.root, job)
    except (RunStoppedError, KeyboardInterrupt):
        note(plan, job, "stopped")
        raise
    except FewlabelError as error:
        fail(plan, job, str(error))
    except Exception:  # noqa: BLE001
        # Whatever it is, it is of this job: the others go on, and the study tells it.
        fail(plan, job, traceback.format_exc())
    else:
        finish(plan, job, time.monotonic() - started)


def limit_threads(threads: int) -> None:
    """Let this process compute with so many threads; torch is not loaded for it."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)


def _follow_parent() -> None:
    """End this process as SIGTERM does once whoever started it is gone, however that came: its end of the pipe is."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def main(path: Path) -> int:
    """Be a worker of the plan in a file, as a process of its own; the exit code."""
    try:
        with stopping_on_signals():
            _follow_parent()
            plan = Plan.read(path)
            limit_threads(plan.threads)
            work_through(plan)
    except (RunStoppedError, KeyboardInterrupt):
        return STOPPED
    except FewlabelError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
