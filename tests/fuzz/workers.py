"""Processes that try inputs one after the other, and the watch over them: one that hangs or dies is begun anew."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from fuzz.outcomes import DIED, HANG, Outcome

#: Seconds of computing, and by the clock where it waits for something, after which an input hangs.
HANG_SECONDS, HANG_WALL = 20.0, 120.0
#: A process has memory for so much, in MiB: one that takes more is ended, and the input with it.
MOST_MIB = 4096
#: Inputs after which a process is begun anew, so that nothing piles up.
RENEWED = 4000
#: The most failures that are kept in full of one run.
MOST_KEPT = 200


@dataclass
class Tally:
    """What became of a run of inputs of a target.

    Attributes:
        target: Its name.
        seed: Seed of the run.
        first: Number of the first input.
        stop: Number after the last.
        verdicts: Verdict → inputs.
        failures: (number, outcome) of those that failed.
        seconds: By the clock.
    """

    target: str
    seed: int
    first: int
    stop: int
    verdicts: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, Outcome]] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def tried(self) -> int:
        """How many inputs were tried."""
        return sum(self.verdicts.values())

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(count for verdict, count in self.verdicts.items() if Outcome(verdict).failed)

    def add(self, index: int, outcome: Outcome) -> None:
        """Count one input."""
        self.verdicts[outcome.verdict] += 1
        if outcome.failed and len(self.failures) < MOST_KEPT:
            self.failures.append((index, outcome))


def run(target: str, seed: int, first: int, stop: int, tell: Callable[[int, Outcome], None] | None = None) -> Tally:
    """Try inputs in a process of their own.

    Args:
        target: Name of the target.
        seed: Of the run.
        first: Number of the first input.
        stop: Number after the last.
        tell: Called with each failure.
    """
    tally, begun, at = Tally(target, seed, first, stop), time.monotonic(), first
    # Of this process, which has loaded what takes long and has no threads.
    context = multiprocessing.get_context("fork")
    while at < stop:
        end = min(stop, at + RENEWED)
        now = context.Value(ctypes.c_longlong, -1)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(target, seed, at, end, sender, now), daemon=True)
        process.start()
        sender.close()
        at, error = _watched(process, receiver, now, tally, at, end, tell)
        if error:
            raise RuntimeError(error)
    tally.seconds = time.monotonic() - begun
    return tally


def _watched(
    process: Any, receiver: Any, now: Any, tally: Tally, at: int, end: int, tell: Callable[[int, Outcome], None] | None
) -> tuple[int, str]:
    """Take outcomes until the process ends or is ended; the number of the next input, and why all must end."""
    at_work, since, computed = -1, time.monotonic(), 0.0
    verdict = DIED
    while True:
        if wait([receiver], timeout=1.0):
            try:
                index, outcome = receiver.recv()
            except EOFError:
                break
            if index < 0:
                process.join()
                return end, outcome
            tally.add(index, outcome)
            at = index + 1
            if outcome.failed and tell is not None:
                tell(index, outcome)
            continue
        if now.value != at_work:
            at_work, since, computed = now.value, time.monotonic(), _cpu_seconds(process.pid)
        elif at_work >= 0 and (
            _cpu_seconds(process.pid) - computed > HANG_SECONDS or time.monotonic() - since > HANG_WALL
        ):
            verdict = HANG
            process.kill()
    process.join()
    if at >= end:
        return end, ""
    if now.value < 0:
        return end, f"{tally.target}: the process ended before its first input ({process.exitcode})"
    # Inputs before the one at work have been told; it is the culprit.
    outcome = Outcome(verdict, f"exit code {process.exitcode}")
    tally.add(now.value, outcome)
    if tell is not None:
        tell(now.value, outcome)
    return now.value + 1, ""


def _cpu_seconds(pid: int) -> float:
    try:
        parts = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(parts[11]) + int(parts[12])) / os.sysconf("SC_CLK_TCK")


def _work(target: str, seed: int, first: int, stop: int, sender: Any, now: Any) -> None:
    """What a process does: outcomes one by one, then the end."""
    import resource

    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        from fuzz.one_input import Bench
        from fuzz.targets import TARGETS
        from fuzz.trees import remove_tree
        from fuzz.watching import Writes

        writes = Writes()
        bench = Bench(TARGETS[target], writes)
    except Exception as error:  # noqa: BLE001  # told to whoever began it
        sender.send((-1, f"{type(error).__name__}: {error}"))
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(resource)
    try:
        for index in range(first, stop):
            now.value = index
            sender.send((index, bench.try_one(seed, index)))
    finally:
        bench.close()
        remove_tree(Path(writes.own))
    sender.send((-1, ""))


def _limit_memory(resource: Any) -> None:
    """So much more than now: an input that wants more gets a ``MemoryError`` and not the machine."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + MOST_MIB * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
