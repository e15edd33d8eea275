"""What ``check`` shows."""

from __future__ import annotations

from typing import Any

from fewlabel.cli.terminal_output import pairs, stdout
from fewlabel.core.errors import DataError
from fewlabel.core.printable import printable


def show_check(values: dict[str, Any], recipe: str | None = None) -> None:
    """Print what was understood of a data set.

    Args:
        values: Settings of ``train``, ``data`` among them; all are checked, those of ``prepare`` count. ``out`` is not
            needed.
        recipe: Name or file of a recipe.

    Raises:
        SettingsError: If a setting is wrong.
        DataError: With every fault, after what was understood is shown.
    """
    from fewlabel.pipelines.train import plan, train_settings
    from fewlabel.stages.prepare import check

    pipeline = train_settings({"out": "run", **values}, recipe)
    settings: Any = plan(pipeline)["prepare"]
    report = check(settings)
    if report.catalog is None:
        raise DataError(report.rows[0][1], report.faults)
    console = stdout()
    console.print(pairs(report.rows))
    for line in report.lines[len(report.rows) :]:
        console.print(printable(line), soft_wrap=console.soft_wrap)
    if report.faults:
        raise DataError(f"{pipeline.data} cannot be used as it is:", report.faults)
    console.print("No faults.")
