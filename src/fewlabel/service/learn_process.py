"""``fewlabel learn`` in a process of its own, begun by a page or a viewer: one round at a time, and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import FewlabelError

#: Lines that are kept of a round.
_LINES = 200
#: Seconds that a round has to end when it is stopped.
_GRACE = 10


@dataclass
class Round:
    """A round that was begun here.

    Attributes:
        words: Settings that were given beside those of every round.
        begun: When.
        ended: When; None while it is at work.
        code: With which code; None while it is at work.
        stopped: Whether somebody stopped it.
        lines: What it said, the last of it.
        folder: Where it lies, as it said at the end.
        id: Of this one.
    """

    words: tuple[str, ...]
    begun: datetime
    ended: datetime | None = None
    code: int | None = None
    stopped: bool = False
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    folder: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


class LearnProcess:
    """At most one round at a time.

    Args:
        run: The run folder.
        words: Words of the command that every round has, such as ``budget=2m``.
        command: What is run; by default this installation of fewlabel.
    """

    def __init__(self, run: Path, words: Sequence[str] = (), command: Sequence[str] = ()) -> None:
        program = command or (sys.executable, "-m", "fewlabel")
        self._words = [*program, "learn", str(run), *words]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._watching: threading.Thread | None = None
        self.rounds: list[Round] = []

    @property
    def at_work(self) -> Round | None:
        """The round that is at work."""
        return self.rounds[-1] if self.rounds and self.rounds[-1].code is None else None

    def start(self, words: Sequence[str] = ()) -> Round | None:
        """Begin a round, with these words beside those of every round; None if one is at work."""
        with self._lock:
            if self.at_work is not None:
                return None
            # A group of its own: Ctrl-C in the terminal is for the server, which ends the round itself.
            self._process = subprocess.Popen(
                [*self._words, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
            made = Round(tuple(words), datetime.now().astimezone())
            self.rounds.append(made)
            self._watching = threading.Thread(target=_watch, args=(self._process, made), name="learn", daemon=True)
            self._watching.start()
            return made

    def state(self) -> dict[str, Any]:
        """``number`` of rounds begun here, ``running``, ``code`` at the end, ``lines``, and the ``round``'s outcome."""
        last = self.rounds[-1] if self.rounds else None
        if last is None:
            return {"number": 0, "running": False, "code": None, "lines": [], "round": None}
        code = last.code
        outcome = _outcome(last.folder) if code == 0 else None
        said = list(last.lines.copy())
        return {"number": len(self.rounds), "running": code is None, "code": code, "lines": said, "round": outcome}

    def stop(self) -> Round | None:
        """End a round that is at work, as Ctrl-C does, and wait for it; what it has not finished begins anew later."""
        with self._lock:
            made, process, watching = self.at_work, self._process, self._watching
            if made is None or process is None or watching is None:
                return None
            made.stopped = True
            process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
            try:
                process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
            watching.join()
            return made


def _watch(process: subprocess.Popen[str], made: Round) -> None:
    """Take what a round says: on stdout its folder, on stderr everything else."""
    listening = threading.Thread(target=_listen, args=(process.stderr, made), name="learn", daemon=True)
    listening.start()
    if process.stdout is not None:
        with process.stdout as stream:
            for line in stream:
                made.folder = line.strip() or made.folder
    listening.join()
    made.code, made.ended = process.wait(), datetime.now().astimezone()


def _listen(stream: IO[str], made: Round) -> None:
    with stream:
        for line in stream:
            if line.strip():
                made.lines.append(line.rstrip())


def _outcome(folder: str) -> dict[str, Any] | None:
    """Number of a round, whether it is used, and why; None where it cannot be read."""
    try:
        record = read_json(Path(folder) / "round.json")
    except (FewlabelError, OSError):
        return None
    return {"number": record["round"], "taken": bool(record["taken"]), "reason": record["reason"]}
