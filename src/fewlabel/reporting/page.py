"""One self-contained HTML file: style inline, figures as data addresses, no script, no network.

The page forbids itself the rest by a content security policy: whatever text gets into it, a browser runs no script,
applies no style but this package's, and fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fewlabel.core.artifact.files import write_text
from fewlabel.core.printable import printable
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
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    source, _, _ = loader.get_source(environment, "report.css")
    # Ours, and no page's text is in it.
    style = Markup(f"\n{source.strip()}\n")
    return environment.get_template("report.html").render(page=page, style=style, policy=_policy(style))


def _shown(value: Any) -> Any:
    """What the template writes of a value: of a name no character that turns or hides what is beside it."""
    return printable(value, lines=True) if isinstance(value, str) and not isinstance(value, Markup) else value


def _policy(style: str) -> str:
    """What a browser may do: show pictures that lie in the page, and apply this very style."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
