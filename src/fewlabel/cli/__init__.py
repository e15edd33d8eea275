"""The command line: words → settings → stage or pipeline. The only place that prints or sets exit codes."""

from fewlabel.cli.app import app, main

__all__ = ["app", "main"]
