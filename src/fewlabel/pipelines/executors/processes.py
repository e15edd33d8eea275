"""The jobs of a plan in several processes of this machine, which share its cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import fewlabel
from fewlabel.core.errors import Fault, RunStoppedError, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.stop_signals import stopping_on_signals
from fewlabel.pipelines.executors.claims import at_work
from fewlabel.pipelines.executors.job_progress import Glance, Standing, glance
from fewlabel.pipelines.executors.jobs import STOPPED_BY_USER, Plan
from fewlabel.pipelines.executors.worker import STOPPED

LOGS = "logs"
#: Seconds between two looks at the workers.
LOOK_EVERY = 0.2
#: Workers that die one after the other, no job being done in between, before it is given up.
MOST_DEATHS = 20
#: Seconds that workers have to save their state after Ctrl-C.
GRACE = 600.0


@dataclass
class _Crew:
    """The worker processes of a plan."""

    plan: Plan
    path: Path
    size: int
    members: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    deaths: int = 0

    def fill(self) -> None:
        """Start workers in the places of those that are missing."""
        for place in range(self.size):
            if place not in self.members:
                self.members[place] = self._start(place)

    def _start(self, place: int) -> subprocess.Popen[bytes]:
        threads = str(self.plan.threads)
        source = str(Path(fewlabel.__file__).resolve().parents[1])
        paths = [source, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "PYTHONPATH": os.pathsep.join(paths)}
        log = self._log(place)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as stream:
            # In a session of its own: Ctrl-C is for this process, which passes it on.
            return subprocess.Popen(
                [sys.executable, "-m", "fewlabel.pipelines.executors.worker", str(self.path)],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
            )

    def bury(self) -> None:
        """Empty the places of workers that were killed; those that were done leave by themselves.

        Raises:
            SettingsError: If one ended with an error, or too many were killed before any job was done.
        """
        for place, process in list(self.members.items()):
            code = process.poll()
            if code is None or code == 0:
                continue
            del self.members[place]
            _close(process)
            self.deaths += 1
            if (code > 0 and code != STOPPED) or self.deaths > MOST_DEATHS:
                raise SettingsError("The jobs were given up:", [self._fault(place, code)])

    def _fault(self, place: int, code: int) -> Fault:
        words = self._log(place).read_text(errors="replace").strip().splitlines()
        last = f"its last words: {words[-1]}" if words else "it said nothing"
        again = (
            f"{self.deaths} workers were killed before any job was done" if code < 0 else f"a worker ended with {code}"
        )
        return Fault(f"{again}; {last}", remedy=f"See {self._log(place)}")

    def _log(self, place: int) -> Path:
        return self.plan.root / LOGS / f"worker-{place}.txt"

    def alive(self) -> list[subprocess.Popen[bytes]]:
        """Workers that are at work."""
        return [process for process in self.members.values() if process.poll() is None]

    def stop(self, *, at_once: bool = False) -> None:
        """Ask all workers to save their state and end, or end them."""
        for process in self.alive():
            with suppress(ProcessLookupError):
                process.kill() if at_once else process.terminate()

    def dismiss(self) -> None:
        """Wait until all have ended; a second Ctrl-C, or too long a wait, ends them at once."""
        until = time.monotonic() + GRACE
        try:
            while self.alive() and time.monotonic() < until:
                time.sleep(LOOK_EVERY)
        except KeyboardInterrupt:
            pass
        self.stop(at_once=True)
        for process in self.members.values():
            process.wait()
            _close(process)


def run_in_processes(plan: Plan, path: Path, workers: int, watch: Callable[[Glance], None]) -> None:
    """Do all jobs of a plan in worker processes; one that is killed is replaced, and its job taken up again.

    Args:
        plan: The plan.
        path: Its file.
        workers: How many.
        watch: Told now and then, and at the end, how far the jobs are.

    Raises:
        RunStoppedError: After Ctrl-C or SIGTERM, once all workers have saved their state and ended.
        SettingsError: If workers end again and again before any job is done.
    """
    crew, standing = _Crew(plan, path, workers), Standing(plan)
    standing.refresh()
    if standing.settled():
        watch(glance(standing, (), workers))
        return
    with stopping_on_signals():
        try:
            crew.fill()
            known, took = len(standing.done), 0.0
            while crew.alive() or not standing.settled():
                # Of many jobs on a slow disk a look takes a while, and is not to be all that is done.
                time.sleep(max(LOOK_EVERY, 5 * took))
                started = time.monotonic()
                standing.refresh()
                watch(glance(standing, _running(standing), workers))
                took = time.monotonic() - started
                if len(standing.done) > known:
                    known, crew.deaths = len(standing.done), 0
                crew.bury()
                if not standing.settled():
                    crew.fill()
        except KeyboardInterrupt:
            say(f"Waiting for {len(crew.alive())} workers to save their state; Ctrl-C again ends them at once.")
            crew.stop()
            crew.dismiss()
            raise RunStoppedError(STOPPED_BY_USER) from None
        finally:
            crew.stop()
            crew.dismiss()
    watch(glance(standing, (), workers))


def _running(standing: Standing) -> Iterator[str]:
    """Keys of jobs that a worker is at."""
    for job in standing.open():
        if at_work(standing.plan, job):
            yield job.key


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
