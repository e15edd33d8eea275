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
        self._counted: set[str] = set()
        self._kinds = {job.key: costs.kind(grid, job.key) for job in plan.jobs}

    def look(self, done: Collection[str]) -> None:
        """Take in what jobs took that are done by now."""
        for key in set(done) - self._counted:
            self._counted.add(key)
            took = seconds_of(self._plan, key)
            if took is not None and key in self._kinds:
                self._took.setdefault(self._kinds[key], []).append(took)

    def of(self, job: Job) -> float | None:
        """What a job takes: as those of its kind did, else as measured, else as those of its stage did."""
        own = typical(self._took.get(self._kinds[job.key], ()) or [])
        if own is not None:
            return own
        measured = self._costs.seconds(self._grid, job.key)
        if measured is not None:
            return measured
        stage = self._grid.planned[job.key].stage
        alike = {self._kinds[other.key] for other in self._plan.jobs if self._grid.planned[other.key].stage == stage}
        return typical([seconds for kind in alike for seconds in self._took.get(kind, [])])

    def left(self, settled: Collection[str], workers: int, shares: Mapping[str, float]) -> float | None:
        """Seconds until all is done; None where some kind of job has not been met.

        Args:
            settled: Keys of jobs that are done or failed.
            workers: How many are done at a time.
            shares: Key → how much of a job at work is done, 0 to 1.
        """
        rest = [job for job in self._plan.jobs if job.key not in settled]
        seconds: dict[str, float] = {}
        for job in rest:
            one = self.of(job)
            if one is None:
                return None
            seconds[job.key] = one * (1.0 - shares.get(job.key, 0.0))
        # Those at work first.
        rest.sort(key=lambda job: job.key not in shares)
        return whole_seconds(rest, seconds, max(workers, 1))
