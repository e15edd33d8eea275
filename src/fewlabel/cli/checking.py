"""What ``check`` shows."""

from __future__ import annotations

from typing import Any

from fewlabel.cli.console import pairs, stdout
from fewlabel.core.errors import DataError


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
    from fewlabel.stages.check import DATA_SETTINGS, PLAN_SETTINGS, SPLIT_SETTINGS, check

    pipeline = train_settings({"out": "run", **values}, recipe)
    settings: Any = plan(pipeline)["prepare"]
    found = check(
        pipeline.data,
        settings.reader,
        workers=settings.workers,
        split=settings.split,
        seed=settings.seed,
        split_settings={name: getattr(settings, name) for name in SPLIT_SETTINGS},
        plan_settings={name: getattr(settings, name) for name in PLAN_SETTINGS},
        **{name: getattr(settings, name) for name in DATA_SETTINGS},
    )
    if found.catalog is None:
        raise DataError(found.rows[0][1], found.faults)
    console = stdout()
    console.print(pairs(found.rows))
    for line in found.lines[len(found.rows) :]:
        console.print(line, soft_wrap=console.soft_wrap)
    if found.faults:
        raise DataError(f"{pipeline.data} cannot be used as it is:", found.faults)
    console.print("No faults.")
