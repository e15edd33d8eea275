"""Jobs that take no time and notice whether two processes are at one of them."""

from __future__ import annotations

import hashlib
import time
from pathlib import Path

from fewlabel.core.artifact.files import write_text
from fewlabel.core.errors import DataError
from fewlabel.pipelines.executors.jobs import Job, Plan, order

WORK = "kit.cells:tiny"


def tiny(root: Path, job: Job) -> None:
    """Leave a number that follows from the job and from what it needs."""
    import fcntl

    folder = root / "jobs" / job.key
    folder.mkdir(parents=True, exist_ok=True)
    if job.payload.get("fails"):
        raise DataError("This one fails.")
    with (folder / "at-work").open("w") as mark:
        # A lock of its own: that of the executor is what is put to the test.
        try:
            fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            (root / "twice").write_text(job.key)
        time.sleep(float(job.payload.get("seconds", 0.0)))
        write_text(folder / "result.txt", result(root, job))


def result(root: Path, job: Job) -> str:
    """What a job comes to."""
    needed = [(root / "jobs" / need / "result.txt").read_text() for need in job.needs]
    return hashlib.sha256("".join([job.key, *needed]).encode()).hexdigest()


def jobs(parents: int, children: int, **payload: object) -> tuple[Job, ...]:
    """Jobs of which each parent has so many children."""
    first = [Job(f"p{at}", f"parent {at}", payload) for at in range(parents)]
    then = [
        Job(f"c{at}-{n}", f"child {n} of {at}", payload, (f"p{at}",)) for n in range(children) for at in range(parents)
    ]
    return order([*then, *first])


def plan_of(root: Path, made: tuple[Job, ...], launch: str = "one") -> Plan:
    """A plan of such jobs, written."""
    plan = Plan(root, WORK, made, launch)
    plan.write()
    return plan


def results(root: Path) -> dict[str, str]:
    """Job → what it came to."""
    return {path.parent.name: path.read_text() for path in (root / "jobs").glob("*/result.txt")}
