"""Who is at a job, whether it is done, and how it went: files in its folder, and a lock that the kernel frees."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import lock_descriptor

from fewlabel.core.artifact.files import append_line, read_json, write_json
from fewlabel.core.errors import ArtifactError, Fault, SettingsError
from fewlabel.pipelines.executors.jobs import Job, Plan

DONE, FAILED, ATTEMPTS = "done.json", "failed.json", "attempts.jsonl"
#: A job whose process was killed so often in one start is given up.
MOST_DEATHS = 5
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


@contextmanager
def claimed(plan: Plan, job: Job) -> Iterator[bool]:
    """Try to be the one who does a job; the claim ends with the block, or with this process.

    Yields:
        Whether it is ours.

    Raises:
        SettingsError: If the file system has no locks.
    """
    path = plan.lock(job.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        yield _locked(stream, path)
    finally:
        os.close(stream)


def _locked(stream: int, path: Path) -> bool:
    try:
        return lock_descriptor(stream, blocking=False)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        problem = f"{path.parent} lies on a file system without locks, so that two processes might do the same job"
        fault = Fault(problem, remedy="Give an --out on another disk")
        raise SettingsError("Nothing was begun:", [fault]) from error


def at_work(plan: Plan, job: Job) -> bool:
    """Whether somebody is at a job now."""
    if sys.platform == "win32" or not plan.lock(job.key).is_file():
        return False
    with claimed(plan, job) as free:
        return not free


def is_done(plan: Plan, key: str) -> bool:
    """Whether a job is done, by this start or an earlier one."""
    return (plan.folder(key) / DONE).is_file()


def failure(plan: Plan, key: str) -> str:
    """Why a job failed in this start; empty if it did not."""
    record = noted(plan.folder(key) / FAILED)
    return str(record.get("error", "")) if record.get("launch") == plan.launch else ""


def noted(path: Path) -> dict[str, Any]:
    """What a file beside a job says; nothing if it is not there, or damaged: it holds no result."""
    if path.is_file():
        with suppress(ArtifactError):
            record = read_json(path)
            return record if isinstance(record, dict) else {}
    return {}


def note(plan: Plan, job: Job, event: str, **facts: Any) -> None:
    """Add a line to the attempts of a job: ``began``, ``stopped`` or ``ended``."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    line = {"event": event, "launch": plan.launch, "at": now, "process": os.getpid(), **facts}
    folder = plan.folder(job.key)
    folder.mkdir(parents=True, exist_ok=True)
    append_line(folder / ATTEMPTS, json.dumps({**line, "host": socket.gethostname()}))


def attempts(plan: Plan, key: str) -> list[dict[str, Any]]:
    """What was noted of a job; a line that was cut off by a kill, or is another's, is left out."""
    path = plan.folder(key) / ATTEMPTS
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            found += [row] if isinstance(row, dict) and "event" in row else []
    return found


def deaths(plan: Plan, key: str) -> int:
    """How often in this start a process was killed at a job."""
    events = [row["event"] for row in attempts(plan, key) if row.get("launch") == plan.launch]
    return events.count("began") - len([event for event in events if event != "began"])


def forget(plan: Plan, key: str) -> None:
    """Say that a job is to be done again."""
    (plan.folder(key) / DONE).unlink(missing_ok=True)


def finish(plan: Plan, job: Job, seconds: float) -> None:
    """Say that a job is done."""
    facts = {"title": job.title, "launch": plan.launch, "seconds": round(seconds, 3)}
    (plan.folder(job.key) / FAILED).unlink(missing_ok=True)
    write_json(plan.folder(job.key) / DONE, {**facts, "finished": time.time(), "payload": dict(job.payload)})
    note(plan, job, "ended", seconds=round(seconds, 3))


def fail(plan: Plan, job: Job, error: str) -> None:
    """Say that a job failed, so that this start leaves it alone; the next one tries it again."""
    note(plan, job, "failed")
    write_json(plan.folder(job.key) / FAILED, {"title": job.title, "launch": plan.launch, "error": error})
