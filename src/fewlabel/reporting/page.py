"""One self-contained HTML file: style inline, figures as data addresses, no script, no network."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from fewlabel.core.artifact.files import write_text
from fewlabel.reporting.blocks import Page


def write_report(path: Path, page: Page) -> None:
    """Write a report.

    Args:
        path: The HTML file; written atomically.
        page: What it says. All text is escaped.
    """
    write_text(path, render(page))


def render(page: Page) -> str:
    """The HTML of a report."""
    loader = PackageLoader("fewlabel.reporting")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(page=page)
