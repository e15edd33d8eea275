"""The command line in this process, which has loaded what a new one would have to load first."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from fewlabel.cli import app
from fewlabel.core import progress


def fewlabel(*words: object, code: int = 0) -> Result:
    """What a command said, in a terminal of 500 columns; it must end with the code."""
    listener = list(progress._listener)
    result = CliRunner(env={"COLUMNS": "500"}).invoke(app, list(map(str, words)))
    progress._listener[:] = listener
    assert result.exit_code == code, result.stdout + result.stderr
    return result
