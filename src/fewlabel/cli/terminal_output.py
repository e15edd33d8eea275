"""What the user sees: lines, tables and progress, right at 80 columns and in log files."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from fewlabel.cli.word_table import WordTable
from fewlabel.core.printable import printable
from fewlabel.core.progress import Bar, listen
from fewlabel.core.settings.durations import clock

#: Seconds between two progress lines where there is no terminal to redraw.
QUIET_SECONDS = 20.0


def rank() -> int:
    """Index of this process under ``torchrun``, else 0; known before torch is imported."""
    return int(os.environ.get("RANK", "0"))


def any_encoding() -> None:
    """Characters that the terminal or file cannot take become question marks, rather than an exception."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


class SafeConsole(Console):
    """A console on which a text moves no cursor: the controls of its own are all that a terminal gets."""

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich asks for each text that is printed or stands in a table."""
        return super().render_str(printable(text, lines=True), **options)


def stdout() -> Console:
    """The console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """The console for progress and errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = SafeConsole(stderr=stderr, highlight=False, markup=False, emoji=False)
    # Piped output is not cut or wrapped at 80 columns: paths stay whole for grep.
    console.soft_wrap = not console.is_terminal and "COLUMNS" not in os.environ
    return console


def table(rows: Sequence[Sequence[str]], heads: Sequence[str], wide: int = -1, *, lines: bool = False) -> WordTable:
    """A plain table that folds its texts between words rather than cutting them.

    Args:
        rows: Cells, as many per row as there are heads.
        heads: Column titles.
        wide: The column that takes the width left over.
        lines: Whether cells have lines of their own; else an end of line in a cell is part of a name.
    """
    return WordTable(_cells(rows, lines=lines), list(heads), wide % len(heads))


def pairs(rows: Sequence[Sequence[str]]) -> WordTable:
    """Topics and what is said of them, without column titles."""
    return WordTable(_cells(rows, lines=False), ["", ""], 1, titled=False)


def _cells(rows: Sequence[Sequence[str]], *, lines: bool) -> list[list[str]]:
    return [[printable(cell, lines=lines) for cell in row] for row in rows]


@dataclass
class _Bar:
    """One running task."""

    owner: ConsoleListener
    title: str
    total: int
    before: int
    done: int
    note: str = ""
    started: float = field(default_factory=time.monotonic)
    shown: float = field(default_factory=time.monotonic)
    id: TaskID | None = None

    def advance(self, count: int = 1, note: str = "") -> None:
        """``count`` more units are done."""
        self.done += count
        self.note = printable(note) or self.note
        self.owner.update(self)

    def line(self) -> str:
        """Where the task is, in one line."""
        spent = time.monotonic() - self.started
        words = [f"{self.title}  {self.done}/{self.total}", clock(spent)]
        fresh = self.done - self.before
        if fresh and self.done < self.total:
            words.append(f"{clock(spent / fresh * (self.total - self.done))} left")
        return "  ".join([*words, self.note]).rstrip()


class ConsoleListener:
    """Shows progress: bars with an ETA on a terminal, a line now and then elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._running = 0

    def start(self, title: str, total: int, done: int) -> Bar:
        """A task of ``total`` units begins, ``done`` of them done before."""
        bar = _Bar(self, printable(title), total, done, done)
        self._running += 1
        if self._console.is_terminal:
            if self._progress is None:
                self._progress = Progress(
                    TextColumn("{task.description}", markup=False),
                    BarColumn(bar_width=20),
                    MofNCompleteColumn(),
                    TimeRemainingColumn(compact=True),
                    TextColumn("{task.fields[note]}", markup=False),
                    console=self._console,
                    transient=True,
                )
                self._progress.start()
            bar.id = self._progress.add_task(bar.title, total=total, completed=done, note="")
        return bar

    def update(self, bar: _Bar) -> None:
        """A task moved on."""
        if self._progress is not None and bar.id is not None:
            self._progress.update(bar.id, completed=bar.done, note=bar.note)
        elif time.monotonic() - bar.shown >= QUIET_SECONDS and bar.done < bar.total:
            bar.shown = time.monotonic()
            self.say(bar.line())

    def finish(self, bar: Bar) -> None:
        """The task has ended, well or not."""
        if not isinstance(bar, _Bar):
            return
        self._running -= 1
        if self._progress is not None:
            if bar.id is not None:
                self._progress.remove_task(bar.id)
            if self._running == 0:
                self._progress.stop()
                self._progress = None
        self.say(bar.line())

    def say(self, text: str) -> None:
        """One line for the user."""
        text = printable(text)
        # A word that is wider than the terminal, as a long path, is left to it: broken here, it could not be copied.
        wide = any(len(word) > self._console.width for word in text.split())
        self._console.print(text, soft_wrap=self._console.soft_wrap or wide)


def show_progress() -> None:
    """Show progress on stderr; under ``torchrun`` by the first process only."""
    if rank() == 0:
        listen(ConsoleListener(stderr()))
