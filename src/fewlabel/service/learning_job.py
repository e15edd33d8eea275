"""``learn`` in a process of its own, one at a time: begun, looked at, stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from fewlabel.core.settings.value_syntax import show_value
from fewlabel.pipelines.learn import remove_unfinished

Status = Literal["RUNNING", "DONE", "ERROR", "STOPPED"]
#: Lines of output that are kept, the last ones.
_LINES = 1000
#: Seconds that a process which was told to stop has for it.
_PATIENCE = 20


@dataclass
class Round:
    """A round that was begun.

    Attributes:
        id: Of this call.
        settings: Those of ``learn`` that were given.
        begun: When.
        ended: When; None while it runs.
        status: How it stands.
        lines: What it said, the last of it.
    """

    id: str
    settings: dict[str, Any]
    begun: datetime
    ended: datetime | None = None
    status: Status = "RUNNING"
    lines: list[str] = field(default_factory=list)


class LearningJob:
    """Runs ``fewlabel learn RUN``; its own process keeps the server answering, and can be stopped.

    Args:
        run: The run folder.
        program: The command line up to ``learn``; that of this installation by default.
    """

    def __init__(self, run: Path, program: Sequence[str] = (sys.executable, "-m", "fewlabel")) -> None:
        self.run = run
        self._program = program
        self.rounds: list[Round] = []
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._told_to_stop = False

    @property
    def running(self) -> Round | None:
        """The round under way."""
        return self.rounds[-1] if self.rounds and self.rounds[-1].status == "RUNNING" else None

    def begin(self, settings: Mapping[str, Any]) -> Round | None:
        """Begin a round; None if one is under way."""
        with self._lock:
            if self.running is not None:
                return None
            self._process = subprocess.Popen(
                [*self._program, "learn", str(self.run.absolute()), *_words(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                errors="replace",
                # Ctrl-C is for the server, which stops it.
                start_new_session=True,
            )
            self._told_to_stop = False
            made = Round(str(uuid.uuid4()), dict(settings), datetime.now().astimezone())
            self.rounds.append(made)
            self._reader = threading.Thread(target=self._follow, args=(self._process, made), daemon=True)
            self._reader.start()
            return made

    def stop(self) -> Round | None:
        """Stop the round under way, wait until it has ended, and remove what it left; None if there is none.

        One that was done before the signal reached it is ``DONE``, not ``STOPPED``: what it made is there.
        """
        with self._lock:
            made, process, reader = self.running, self._process, self._reader
            if made is None or process is None or reader is None:
                return None
            self._told_to_stop = True
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
            reader.join()
            # What cannot be removed goes when the next round begins.
            with suppress(OSError):
                remove_unfinished(self.run)
            return made

    def _follow(self, process: subprocess.Popen[str], made: Round) -> None:
        stream = process.stdout
        if stream is None:
            raise ValueError("its output is not listened to")
        with stream:
            for line in stream:
                made.lines = [*made.lines[1 - _LINES :], line.rstrip("\n")]
        code = process.wait()
        made.ended = datetime.now().astimezone()
        made.status = "DONE" if code == 0 else "STOPPED" if self._told_to_stop else "ERROR"


def _words(settings: Mapping[str, Any], above: str = "") -> list[str]:
    """Settings as words of a command, groups of them with a dot."""
    words = []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            words += _words(value, f"{above}{key}.")
        else:
            words.append(f"{above}{key}={show_value(value)}")
    return words
