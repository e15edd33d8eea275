"""The command that compares methods: a study, its forecast, its live table, and the studies there are."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewlabel.cli.overrides import Device, Words, collect
from fewlabel.cli.pipelines import PANEL
from fewlabel.cli.terminal_output import QUIET_SECONDS, stderr, stdout, table
from fewlabel.core.printable import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

    from fewlabel.pipelines.executors.job_progress import Glance
    from fewlabel.pipelines.study.board import Board


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel=PANEL)(study)


def study(
    spec: Annotated[
        str | None, typer.Argument(metavar="SPEC", help="A YAML file, or one of the studies that --list shows.")
    ] = None,
    words: Words = None,
    *,
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="DIR", help="Folder of the study; what is done there is not done again."),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="DATA", help="Folder or table of scans.")] = None,
    size: Annotated[str | None, typer.Option("--size", metavar="lite|paper", help="One of the study's sizes.")] = None,
    executor: Annotated[
        str | None, typer.Option("--executor", metavar="here|processes|ray|slurm", help="Who does the work.")
    ] = None,
    workers: Annotated[int | None, typer.Option("--workers", metavar="N", help="Jobs at a time.")] = None,
    device: Device = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the grid and how long it would take; train nothing.")
    ] = False,
    show_list: Annotated[bool, typer.Option("--list", help="Show the studies that come with the package.")] = False,
) -> None:
    """Compare methods over numbers of labels, draws and seeds, with tests and tables."""
    if show_list:
        _list()
        return
    options = {"out": out, "data": data, "size": size, "executor": executor, "workers": workers}
    values = collect({}, words, options)
    if device is not None:
        for stage in ("pretrain", "finetune", "evaluate"):
            values[stage] = {"device": device, **values.get(stage, {})}
    from fewlabel.core.errors import MISSING, Fault, SettingsError
    from fewlabel.pipelines import study as pipeline

    if spec is None:
        fault = Fault("is required", "SPEC", "Give a YAML file, or one of the studies of --list", kind=MISSING)
        raise SettingsError("The command line is not valid:", [fault])
    asked = pipeline.study_of(spec, values)
    if dry_run:
        for line in pipeline.dry_run(asked):
            stdout().print(line, soft_wrap=True)
        return
    with LiveBoard(stderr()) as board:
        folder = pipeline.run(asked, board.show)
    _end(folder)


def _list() -> None:
    from fewlabel.pipelines import study as pipeline

    rows: list[list[str]] = []
    for name in pipeline.study_names():
        values = pipeline.study_values(name)
        rows.append([name, ", ".join(values.get("sizes", {})), str(values.get("description", ""))])
    stdout().print(table(rows, ["name", "sizes", "what it asks"]))


def _end(folder: Path) -> None:
    """The outcome, last and on stdout."""
    console = stdout()
    text = (folder / "results" / "tables.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        console.print(line, soft_wrap=True)
    console.print(f"report: {folder / 'results' / 'report.html'}", soft_wrap=True)
    console.print(f"study: {folder}", soft_wrap=True)


class LiveBoard:
    """Shows how far a study is: a table that redraws itself on a terminal, a line now and then elsewhere.

    Args:
        console: Where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._shown = 0.0
        self._last = ""

    def __enter__(self) -> LiveBoard:
        """Begin with the first look."""
        return self

    def __exit__(self, *ended: object) -> None:
        """Leave the last table on the terminal."""
        if self._live is not None:
            self._live.stop()

    def show(self, board: Board, glance: Glance) -> None:
        """A look at the study."""
        if self._console.is_terminal:
            self._redraw(board, glance)
            return
        line = board.status(glance)
        if line != self._last and (time.monotonic() - self._shown >= QUIET_SECONDS or not glance.waiting):
            self._shown, self._last = time.monotonic(), line
            self._console.print(line, soft_wrap=True)

    def _redraw(self, board: Board, glance: Glance) -> None:
        from rich.live import Live
        from rich.text import Text

        text: Any = Text("\n".join(map(printable, board.lines(glance))))
        if self._live is None:
            self._live = Live(text, console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(text, refresh=True)
