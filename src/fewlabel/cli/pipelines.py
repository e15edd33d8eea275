"""The commands that do everything: demo, check, train, learn, view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fewlabel.cli.overrides import Device, Out, Reader, Recipe, Resume, Run, Words, collect
from fewlabel.cli.terminal_output import stdout, table

PANEL = "The whole way"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command in (demo, check, train, learn, view):
        app.command(rich_help_panel=PANEL)(command)


def demo(
    words: Words = None,
    *,
    out: Annotated[
        str | None, typer.Option("--out", metavar="DIR", help="Where all of it goes; fewlabel-demo by default.")
    ] = None,
    resume: Resume = False,
    device: Device = None,
) -> None:
    """Synthetic hearts, the whole way to a report, in minutes."""
    values = collect({}, words, {"out": out, "resume": resume, "device": device})
    from fewlabel.pipelines import demo as pipeline

    _end(pipeline.run(pipeline.demo_settings(values)))


def train(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="DATA",
            help="Folder or table of scans; all as before with --resume and no more.",
        ),
    ] = None,
    words: Words = None,
    *,
    out: Out = None,
    recipe: Recipe = None,
    resume: Resume = False,
    reader: Reader = None,
    device: Device = None,
) -> None:
    """From a folder of scans to a model, its scores and a report."""
    options = {"out": out, "resume": resume, "reader": reader, "device": device}
    values = collect({"data": data}, words, options)
    from fewlabel.pipelines import train as pipeline

    _end(pipeline.run(pipeline.train_settings(values, recipe)))


def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder or table of scans.")],
    words: Words = None,
    *,
    recipe: Recipe = None,
    reader: Reader = None,
) -> None:
    """Say what was understood of a folder, and every fault at once; takes the settings of train."""
    values = collect({"data": data}, words, {"reader": reader})
    from fewlabel.cli.check_output import show_check

    show_check(values, recipe)


def learn(
    run: Run,
    words: Words = None,
    *,
    masks: Annotated[
        str | None, typer.Option("--masks", metavar="DIR", help="New and corrected masks; RUN/annotations by default.")
    ] = None,
    device: Device = None,
) -> None:
    """Take new and corrected masks into a run, and go on from its network."""
    values = collect({"run": run}, words, {"masks": masks, "device": device})
    from fewlabel.pipelines import learn as pipeline

    stdout().print(str(pipeline.run(pipeline.learn_settings(values))), soft_wrap=True)


def view(
    place: Annotated[
        str,
        typer.Argument(metavar="RUN|SCANS", help="Folder made by train or demo; or a scan, folder or table of scans."),
    ],
    words: Words = None,
    *,
    port: Annotated[int | None, typer.Option("--port", metavar="N", help="A free one from 8600 on by default.")] = None,
    masks: Annotated[
        str | None, typer.Option("--masks", metavar="DIR", help="Where masks are saved; RUN/annotations by default.")
    ] = None,
) -> None:
    """Look at scans and masks in a browser, correct masks, and learn from them."""
    values = collect({"place": place}, words, {"port": port, "masks": masks})
    from fewlabel.service.view.server import run
    from fewlabel.service.view.settings import ViewSettings

    def show(link: str) -> None:
        console = stdout()
        console.print(f"Open {link}", soft_wrap=True)
        console.print("Only this machine can. Ctrl-C ends it.", soft_wrap=True)

    run(ViewSettings.parse(values), show)


def _end(run: Path) -> None:
    """The outcome, last and on stdout."""
    from fewlabel.pipelines.summary import closing_lines, heads, outcome, verdict

    console = stdout()
    rows = outcome(run)
    if rows:
        console.print(table(rows, heads(run)))
        console.print(verdict(run), soft_wrap=console.soft_wrap)
    for line in closing_lines(run):
        console.print(line, soft_wrap=console.soft_wrap)
    page = run / "report" / "report.html"
    if page.is_file():
        console.print(f"report: {page}", soft_wrap=True)
    console.print(f"run: {run}", soft_wrap=True)
