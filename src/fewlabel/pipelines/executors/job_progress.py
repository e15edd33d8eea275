"""How far the jobs of a plan are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fewlabel.pipelines.executors.claims import DONE, failure, is_done, noted
from fewlabel.pipelines.executors.jobs import Job, Plan


class Standing:
    """What is known of the jobs of a plan; nothing is done twice that is known to be done.

    Args:
        plan: The plan.

    Attributes:
        done: Keys of jobs that are done.
        failed: Key → why it failed, or which job that it needs did.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.done: set[str] = set()
        self.failed: dict[str, str] = {}
        self._open = list(plan.jobs)

    def look(self, job: Job) -> None:
        """Look at one job again."""
        if is_done(self.plan, job.key):
            self.done.add(job.key)
            return
        lost = [need for need in job.needs if need in self.failed]
        why = failure(self.plan, job.key) or (f"needs {lost[0]}, which failed" if lost else "")
        if why:
            self.failed[job.key] = why

    def refresh(self) -> None:
        """Look at all jobs that are neither done nor failed."""
        for job in self.open():
            self.look(job)

    def open(self) -> list[Job]:
        """Jobs that are neither done nor failed as far as is known."""
        self._open = [job for job in self._open if job.key not in self.done and job.key not in self.failed]
        return list(self._open)

    def ready(self) -> Iterator[Job]:
        """Open jobs whose needs are done, each looked at just before it comes."""
        for job in self.open():
            self.look(job)
            if job.key not in self.done and job.key not in self.failed and self.done.issuperset(job.needs):
                yield job

    def settled(self) -> bool:
        """Whether nothing is left to do."""
        return not self.open()


@dataclass(frozen=True)
class Glance:
    """What is to be shown of a plan at work.

    Attributes:
        done: Keys of jobs that are done.
        running: Keys of jobs that somebody is at.
        failed: Key → why.
        waiting: Number of other jobs.
        workers: How many jobs can be done at a time.
    """

    done: frozenset[str]
    running: tuple[str, ...]
    failed: dict[str, str]
    waiting: int
    workers: int


def glance(standing: Standing, running: Iterator[str] | list[str] | tuple[str, ...], workers: int) -> Glance:
    """What is known now.

    Args:
        standing: How far the jobs are.
        running: Keys of jobs that somebody is at.
        workers: How many jobs can be done at a time.
    """
    at_it = tuple(key for key in running if key not in standing.done and key not in standing.failed)
    waiting = len(standing.open()) - len(at_it)
    return Glance(frozenset(standing.done), at_it, dict(standing.failed), max(waiting, 0), workers)


def seconds_of(plan: Plan, key: str) -> float | None:
    """What a finished job took; None if it is not done, or nothing says so any more."""
    seconds = noted(plan.folder(key) / DONE).get("seconds")
    return float(seconds) if isinstance(seconds, int | float) else None
