"""Jobs and the plan that lists them: what is to be done, in which folder, after what."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fewlabel.core.artifact.files import read_json, write_json
from fewlabel.core.artifact.manifest_fields import wrong_fields
from fewlabel.core.errors import ArtifactError, Fault

#: Folders below that of a plan: of the jobs, of their locks, and of plans as they were begun.
JOBS, LOCKS, PLANS = "jobs", "locks", "plans"
#: What is said once the work was stopped, whoever did it.
STOPPED_BY_USER = "Stopped; what is done is kept, repeat the command to go on."


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        key: Its name, which follows from what is to be done: the same work has the same key, and is done once.
        title: What it is, for people.
        payload: JSON-ready values that say what is to be done.
        needs: Keys of jobs that must be done before.
    """

    key: str
    title: str
    payload: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


#: Does a job in the folder of a plan; called with that folder and the job.
Work = Callable[[Path, Job], None]


@dataclass(frozen=True)
class Plan:
    """Jobs of one start.

    Attributes:
        root: Folder of all of them.
        work: What does a job: ``module:function``, to be found by other processes, too.
        jobs: Most wanted first; what a job needs comes before it.
        launch: Tells this start from others.
        threads: Threads of a job.
        gpus: Graphics processors of a job; less than 1 where jobs share one.
    """

    root: Path
    work: str
    jobs: tuple[Job, ...]
    launch: str
    threads: int = 1
    gpus: float = 0.0

    def folder(self, key: str) -> Path:
        """Folder of a job."""
        return self.root / JOBS / key

    def lock(self, key: str) -> Path:
        """File that whoever is at a job has locked."""
        return self.root / LOCKS / key

    def write(self) -> Path:
        """Write the plan for other processes.

        Returns:
            The file.
        """
        path = self.root / PLANS / f"{self.launch}.json"
        write_json(path, {**asdict(self), "root": ""})
        (self.root / LOCKS).mkdir(parents=True, exist_ok=True)
        return path

    @classmethod
    def read(cls, path: Path) -> Plan:
        """The plan in a file.

        Raises:
            ArtifactError: If it cannot be read.
        """
        values = read_json(path)
        try:
            plan: Plan = TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            fault = Fault(
                f"{path} is not a valid plan ({wrong_fields(error)})", remedy="Repeat the command of the study"
            )
            raise ArtifactError("An artifact is damaged:", [fault]) from error
        return replace(plan, root=path.resolve().parents[1])

    def worker(self) -> Work:
        """The function that does a job."""
        module, _, name = self.work.partition(":")
        found: Work = getattr(importlib.import_module(module), name)
        return found


def order(jobs: Sequence[Job]) -> tuple[Job, ...]:
    """Jobs without those that are there twice, each after what it needs, else as they are.

    Raises:
        ValueError: If a job needs one that is not there.
    """
    known = {job.key: job for job in jobs}
    placed: dict[str, Job] = {}

    def place(job: Job) -> None:
        if job.key in placed:
            return
        for need in job.needs:
            if need not in known:
                raise ValueError(f"{job.title} needs {need}, which is no job")
            place(known[need])
        placed[job.key] = job

    for job in jobs:
        place(job)
    return tuple(placed.values())


def same_json(values: Mapping[str, Any]) -> str:
    """JSON text that is the same for equal values, for keys."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
