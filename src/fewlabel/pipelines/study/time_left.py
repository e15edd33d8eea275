"""How long the jobs of a study will take: each by its kind, all by the order in which workers take them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Mapping

from fewlabel.pipelines.executors.job_progress import seconds_of
from fewlabel.pipelines.executors.jobs import Job, Plan
from fewlabel.pipelines.study.costs import Costs, typical
from fewlabel.pipelines.study.grid import Grid

Seconds = Callable[[Job], float | None]


def whole_seconds(jobs: Collection[Job], seconds: Mapping[str, float], workers: int) -> float:
    """When the last of some jobs will end, if each worker takes the first that is ready.

    Args:
        jobs: In the order in which they are wanted; those that they need, and are not among them, are done.
        seconds: Key → what a job takes.
        workers: How many jobs are done at a time, 1 or more.
    """
    left = {job.key: job for job in jobs}
    over: set[str] = set()
    at_work: list[tuple[float, str]] = []
    now = 0.0
    while left or at_work:
        waiting = left.keys() | {key for _, key in at_work}
        ready = [job for job in left.values() if all(need in over or need not in waiting for need in job.needs)]
        while ready and len(at_work) < workers:
            job = ready.pop(0)
            del left[job.key]
            heapq.heappush(at_work, (now + seconds[job.key], job.key))
        if not at_work:
            # What is left needs what is not there.
            break
        now, key = heapq.heappop(at_work)
        over.add(key)
    return now


class TimeLeft:
    """Tells how long the rest of a study will take, by jobs that are done, else by what was measured.

    Args:
        plan: The plan.
        grid: The grid.
        costs: What was measured.
    """

    def __init__(self, plan: Plan, grid: Grid, costs: Costs) -> None:
        self._plan, self._grid, self._costs = plan, grid, costs
        self._took: dict[str, list[float]] = {}
        self._at_work: dict[str, float] = {}
        self._counted: set[str] = set()
        self._kinds = {job.key: costs.kind(grid, job.key) for job in plan.jobs}

    def look(self, done: Collection[str], paces: Mapping[str, float] | None = None) -> None:
        """Take in what jobs took that are done by now.

        Args:
            done: Their keys.
            paces: Key → what a job at work takes in all, if it goes on as it does.
        """
        self._at_work = {self._kinds[key]: seconds for key, seconds in (paces or {}).items() if key in self._kinds}
        for key in set(done) - self._counted:
            self._counted.add(key)
            took = seconds_of(self._plan, key)
            if took is not None and key in self._kinds:
                self._took.setdefault(self._kinds[key], []).append(took)

    def of(self, job: Job) -> float | None:
        """What a job takes: as others of its kind did, else as measured, as one at work does, as its stage did."""
        kind = self._kinds[job.key]
        own = typical(self._took.get(kind, ()) or [])
        if own is not None:
            return own
        measured = self._costs.seconds(self._grid, job.key)
        if measured is not None:
            return measured
        if kind in self._at_work:
            return self._at_work[kind]
        stage = self._grid.planned[job.key].stage
        alike = {self._kinds[other.key] for other in self._plan.jobs if self._grid.planned[other.key].stage == stage}
        met = [seconds for kind in alike for seconds in self._took.get(kind, [])]
        return typical(met or [self._at_work[kind] for kind in alike if kind in self._at_work])

    def left(self, settled: Collection[str], workers: int, shares: Mapping[str, float]) -> tuple[float, bool]:
        """Seconds until all is done, and whether every job counts: those of a stage that has not been met take none.

        Args:
            settled: Keys of jobs that are done or failed.
            workers: How many are done at a time.
            shares: Key → how much of a job at work is done, 0 to 1.
        """
        rest = [job for job in self._plan.jobs if job.key not in settled]
        each = {job.key: self.of(job) for job in rest}
        seconds = {key: (one or 0.0) * (1.0 - shares.get(key, 0.0)) for key, one in each.items()}
        # Those at work first.
        rest.sort(key=lambda job: job.key not in shares)
        return whole_seconds(rest, seconds, max(workers, 1)), None not in each.values()
