"""One cell of the memory suite, in a process of its own: ``memory_cell.py JSON``; prints bytes as JSON.

The stage runs on a tiny data set first, so that what is imported and made once is there; that is the baseline. Then the
kernel forgets the peak it knows, the stage runs on the data set that counts, and its peak is read.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def resident(name: str) -> int:
    """Bytes of ``VmRSS`` (now) or ``VmHWM`` (the peak) of this process."""
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


class Sayings:
    """Keeps what a stage says."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def start(self, title: str, total: int, done: int) -> Sayings:  # noqa: ARG002
        """No bar."""
        return self

    def advance(self, count: int = 1, note: str = "") -> None:
        """No bar."""

    def finish(self, bar: object) -> None:
        """No bar."""

    def say(self, text: str) -> None:
        """Keep a line."""
        self.lines.append(text)


def work(stage: str, settings: dict[str, Any]) -> list[str]:
    """Run a stage; what it says is returned."""
    import fewlabel
    from fewlabel.core.progress import listen

    heard = Sayings()
    listen(heard)
    if stage == "check":
        from fewlabel.stages.prepare import PrepareSettings, check

        report = check(PrepareSettings.parse({"out": "unused", **settings}))
        if report.faults:
            raise SystemExit("; ".join(map(str, report.faults)))
        return [*heard.lines, *report.lines]
    getattr(fewlabel, stage)(**settings)
    return heard.lines


if __name__ == "__main__":
    cell = json.loads(sys.argv[1])
    if cell["threads"]:
        import torch

        torch.set_num_threads(cell["threads"])
    work(cell["stage"], cell["warm"])
    gc.collect()
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    started = time.perf_counter()
    said = work(cell["stage"], cell["settings"])
    seconds = time.perf_counter() - started
    print(json.dumps({"baseline": before, "peak": resident("VmHWM"), "seconds": round(seconds, 3), "said": said}))
