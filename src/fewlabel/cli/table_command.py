"""The command that writes the table of what was recognised in a folder."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from fewlabel.cli.overrides import Reader, Words, collect
from fewlabel.cli.pipelines import PANEL
from fewlabel.cli.terminal_output import stderr
from fewlabel.core.printable import printable


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(rich_help_panel=PANEL)(table)


def table(
    data: Annotated[str, typer.Argument(metavar="DATA", help="Folder of scans.")],
    words: Words = None,
    *,
    reader: Reader = None,
) -> None:
    """Write the table of what was recognised in a folder, ready to be corrected: fewlabel table DATA > scans.csv."""
    values = collect({"data": data}, words, {"reader": reader})
    from fewlabel.readers.catalog_as_table import TableSettings, write_table

    settings: Any = TableSettings.parse(values)
    written = write_table(settings.data, settings.reader)
    console = stderr()
    for note in written.notes:
        console.print(printable(note), soft_wrap=True)
    # Read by people, or by programs.
    sys.stdout.write(printable(written.text, lines=True) if sys.stdout.isatty() else written.text)
