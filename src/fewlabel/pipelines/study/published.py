"""Published figures that come with the package, each with its source, to put beside those of a study."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.errors import Fault, SettingsError
from fewlabel.core.suggestions import did_you_mean
from fewlabel.pipelines.study.shipped import FOLDER
from fewlabel.pipelines.study.spec import Study

#: A file for each table, with columns part, dataset, method, labelled, dice, std (empty if not given) and source.
PUBLISHED = FOLDER / "published"


@dataclass(frozen=True)
class Figure:
    """One published figure.

    Attributes:
        part: Part of the table, such as the number it has in the paper.
        dataset: Data set.
        method: Name in the paper.
        labelled: Number of labelled patients, or what the paper counts.
        dice: Dice, 0 to 1.
        std: Its deviation; None where none is given.
        source: Where it is from.
    """

    part: str
    dataset: str
    method: str
    labelled: str
    dice: float
    std: float | None
    source: str

    def words(self) -> str:
        """``0.729 ± 0.014``."""
        return f"{self.dice:.3f}" + ("" if self.std is None else f" ± {self.std:.3f}")


def table_names() -> list[str]:
    """Names of the tables, sorted."""
    return sorted(path.stem for path in PUBLISHED.glob("*.csv"))


def read_table(name: str, folder: Path = PUBLISHED) -> list[Figure]:
    """The figures of a table.

    Args:
        name: The table.
        folder: Where tables lie.

    Raises:
        SettingsError: If there is no such table.
    """
    path = folder / f"{name}.csv"
    if not path.is_file():
        remedy = did_you_mean(name, table_names())
        fault = Fault(f'no published table is named "{name}"', "published.table", remedy)
        raise SettingsError("The study is not valid:", [fault])
    with path.open(encoding="utf-8", newline="") as stream:
        return [
            Figure(
                row["part"],
                row["dataset"],
                row["method"],
                row["labelled"],
                float(row["dice"]),
                float(row["std"]) if row["std"] else None,
                row["source"],
            )
            for row in csv.DictReader(stream)
        ]


def published_of(study: Study) -> tuple[dict[tuple[str, str], str], str]:
    """(arm, number of labelled patients) → published figure in words, and their sources.

    Raises:
        SettingsError: If there is no such table, or an arm's name is not in it.
    """
    asked = study.settings.published
    if not asked.table:
        return {}, ""
    figures = [
        figure
        for figure in read_table(asked.table)
        if figure.dataset == asked.dataset and asked.part in ("", figure.part)
    ]
    methods = list(dict.fromkeys(figure.method for figure in figures))
    sets = list(dict.fromkeys(figure.dataset for figure in read_table(asked.table)))
    faults = [
        Fault(f'"{arm.published}" is not in the table', f"arms.{name}.published", did_you_mean(arm.published, methods))
        for name, arm in study.arms.items()
        if arm.published and arm.published not in methods
    ]
    if not methods:
        part = f" in part {asked.part}" if asked.part else ""
        problem = f'the table {asked.table} has nothing of "{asked.dataset}"{part}'
        faults = [Fault(problem, "published.dataset", did_you_mean(asked.dataset, sets))]
    if faults:
        raise SettingsError("The study is not valid:", faults)
    found: dict[tuple[str, str], str] = {}
    sources: dict[str, None] = {}
    for name, arm in study.arms.items():
        for figure in figures:
            if figure.method == arm.published:
                found[name, asked.budgets.get(figure.labelled, figure.labelled)] = figure.words()
                sources[figure.source] = None
    return found, "; ".join(sources)
