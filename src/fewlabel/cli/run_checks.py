"""The command for runs that go elsewhere: copies that name nobody."""

from __future__ import annotations

from typing import Annotated

import typer

from fewlabel.cli.overrides import collect
from fewlabel.cli.terminal_output import stdout

PANEL = "Runs that go elsewhere"

Run = Annotated[str, typer.Argument(metavar="RUN", help="Folder made by train or demo.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(rich_help_panel=PANEL)(share)


def share(
    run: Run,
    *,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Folder of the copy (required).")] = None,
) -> None:
    """Copy a run without names, paths and ids, to give it away; the key stays in RUN."""
    values = collect({"run": run}, None, {"out": out})
    from fewlabel.pipelines import share as pipeline

    stdout().print(str(pipeline.run(pipeline.ShareSettings.parse(values))), soft_wrap=True)
