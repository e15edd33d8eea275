"""``fewlabel learn`` in a process of its own, begun by a button, and what it says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import FewlabelError

#: Lines that are kept for the page.
_LINES = 200
#: Seconds that a round has to end when the server does.
_GRACE = 10


class LearnProcess:
    """At most one round at a time.

    Args:
        run: The run folder.
        words: Further words of the command, such as ``budget=2m``.
        command: What is run; by default this installation of fewlabel.
    """

    def __init__(self, run: Path, words: Sequence[str] = (), command: Sequence[str] = ()) -> None:
        program = command or (sys.executable, "-m", "fewlabel")
        self._words = [*program, "learn", str(run), *words]
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=_LINES)
        self._ears: list[threading.Thread] = []
        self._folder = ""
        self._number = 0

    def start(self) -> bool:
        """Begin a round; False if one is at work."""
        with self._lock:
            if self._running():
                return False
            self._lines.clear()
            self._folder, self._number = "", self._number + 1
            # A group of its own: Ctrl-C in the terminal is for the server, which ends the round itself.
            self._process = subprocess.Popen(
                self._words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
            self._ears = [
                threading.Thread(target=self._listen, args=(stream,), name="learn", daemon=True)
                for stream in (self._process.stdout, self._process.stderr)
            ]
            for ear in self._ears:
                ear.start()
            return True

    def _running(self) -> bool:
        """Whether a round is at work, or not all that it said has been read."""
        ended = self._process is None or self._process.poll() is not None
        return not ended or any(ear.is_alive() for ear in self._ears)

    def _listen(self, stream: Any) -> None:
        with stream:
            for line in stream:
                text = line.rstrip()
                with self._lock:
                    if self._process is not None and stream is self._process.stdout and text:
                        self._folder = text
                    elif text:
                        self._lines.append(text)

    def state(self) -> dict[str, Any]:
        """``number`` of rounds begun here, ``running``, ``code`` at the end, ``lines``, and the ``round``'s outcome."""
        with self._lock:
            running = self._running()
            code = None if running or self._process is None else self._process.returncode
            known = {"number": self._number, "running": running, "code": code, "lines": list(self._lines)}
            folder = self._folder
        return {**known, "round": _outcome(folder) if code == 0 else None}

    def stop(self) -> None:
        """End a round that is at work, as Ctrl-C does; what it has not finished begins anew another time."""
        with self._lock:
            process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT if os.name == "posix" else signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()


def _outcome(folder: str) -> dict[str, Any] | None:
    """Number of a round, whether it is used, and why; None where it cannot be read."""
    try:
        record = read_json(Path(folder) / "round.json")
    except (FewlabelError, OSError):
        return None
    return {"number": record["round"], "taken": bool(record["taken"]), "reason": record["reason"]}
