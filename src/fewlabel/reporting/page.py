"""One self-contained HTML file: style inline, figures as data addresses, no script, no network."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from jinja2 import DictLoader, Environment, StrictUndefined
from markupsafe import Markup

from fewlabel.core.artifact.files import write_text
from fewlabel.reporting.blocks import Page

TEMPLATES = "templates"


def write_report(path: Path, page: Page) -> None:
    """Write a report.

    Args:
        path: The HTML file; written atomically.
        page: What it says. All text is escaped.
    """
    write_text(path, render(page))


def render(page: Page) -> str:
    """The HTML of a report."""
    folder = resources.files(__package__ or "fewlabel.reporting") / TEMPLATES
    sources = {name: (folder / name).read_text(encoding="utf-8") for name in ("report.html", "report.css")}
    environment = Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # The style sheet is ours, not the data's: the only text that is not escaped.
    style = Markup(sources["report.css"])
    return environment.get_template("report.html").render(page=page, style=style)
