"""Every setting of a stage or pipeline as rows, with the settings of the plug-ins chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewlabel.core.config import Settings
from fewlabel.core.describe import describe
from fewlabel.pipelines.stages import settings_class

PIPELINES = {"train": "TrainSettings", "demo": "DemoSettings"}


def setting_rows(stage: str, values: Mapping[str, Any] | None = None) -> list[dict[str, str]]:
    """A row per setting of a stage: ``key``, ``type``, ``default``, ``unit``, ``source``, ``doc``.

    Args:
        stage: A stage or pipeline.
        values: Nested values; those that choose a plug-in decide whose settings are listed.

    Raises:
        SettingsError: If the stage or a plug-in is unknown.
    """
    return describe(_class_of(stage), chosen=values or {})


def markdown_table(rows: Sequence[Mapping[str, str]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| setting | type | default | unit | meaning | source |", "|---|---|---|---|---|---|"]
    for row in rows:
        kind = row["type"].replace(" | ", " or ")
        default = f"`{row['default']}`" if row["default"] else ""
        cells = (f"`{row['key']}`", kind, default, row["unit"], row["doc"], row["source"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _class_of(stage: str) -> type[Settings]:
    if stage in PIPELINES:
        import importlib

        found: type[Settings] = getattr(importlib.import_module(f"fewlabel.pipelines.{stage}"), PIPELINES[stage])
        return found
    return settings_class(stage)
