"""The commands about runs that go elsewhere: copies that name nobody, and whether a run is what it claims to be."""

from __future__ import annotations

from typing import Annotated

import typer

from fewlabel.cli.overrides import Device, Run, Words, collect
from fewlabel.cli.terminal_output import stdout, table

PANEL = "Runs that go elsewhere"


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(rich_help_panel=PANEL)(share)
    app.command(rich_help_panel=PANEL)(verify)


def share(
    run: Run,
    words: Words = None,
    *,
    out: Annotated[str | None, typer.Option("--out", metavar="DIR", help="Folder of the copy (required).")] = None,
) -> None:
    """Copy a run without names, paths and ids, to give it away; the key stays with you."""
    values = collect({"run": run}, words, {"out": out})
    from fewlabel.pipelines import share as pipeline

    stdout().print(str(pipeline.run(pipeline.ShareSettings.parse(values))), soft_wrap=True)


def verify(run: Run, words: Words = None, *, device: Device = None) -> None:
    """Say whether a run is what it claims to be: hashes, scores and first steps, made again."""
    values = collect({"run": run}, words, {"device": device})
    from fewlabel.pipelines import verify as pipeline

    found = pipeline.run(pipeline.VerifySettings.parse(values))
    console = stdout()
    console.print(table([[one.part, one.verdict, one.detail] for one in found.findings], ["part", "verdict", "how"]))
    console.print(found.sentence, soft_wrap=console.soft_wrap)
    if found.differing:
        raise typer.Exit(3)
