"""The tables of a study as files: HTML, Markdown, LaTeX, Parquet and JSON."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import wrap
from typing import Any

import pandas as pd

from fewlabel.core.artifact.files import write_bytes, write_json, write_text
from fewlabel.core.settings.durations import clock
from fewlabel.pipelines.study.analysis import analyse
from fewlabel.pipelines.study.embeddings import Embeddings
from fewlabel.pipelines.study.grid import Grid
from fewlabel.pipelines.study.published import published_of
from fewlabel.pipelines.study.results import Results, collect
from fewlabel.pipelines.study.spec import Study
from fewlabel.reporting.blocks import Table
from fewlabel.reporting.page import write_report
from fewlabel.reporting.study.as_text import latex, markdown, plain
from fewlabel.reporting.study.page import StudyFacts, all_tables, compose, headline, told_differences
from fewlabel.reporting.study.tables import claim_table, short_table

FOLDER = "results"


def write_results(study: Study, grid: Grid) -> Path:
    """Write what the finished cells of a study came to; older tables are replaced.

    ``rows.parquet`` has a row for each cell, ``cases.parquet`` one for each of its scans and classes,
    ``statistics.json`` all that the tables are made of; ``report.html``, ``tables.md`` and ``tables.tex`` are for
    reading, ``tables.txt`` in a terminal of 80 columns.

    Args:
        study: The study.
        grid: Its cells.

    Returns:
        The folder.

    Raises:
        SettingsError: If the published figures asked for are not there.
    """
    results = collect(
        study.folder,
        grid.cells,
        {name: arm.doc for name, arm in study.arms.items()},
        study.settings.recorded,
    )
    published, source = published_of(study)
    embeddings = Embeddings(study.folder, grid, study.settings.embeddings)
    statistics = {**analyse(study, results), "embeddings": embeddings.statistics()}
    facts = StudyFacts(
        statistics=statistics,
        published=published,
        differences=study.settings.published.differences,
        source=source,
        docs={name: arm.doc for name, arm in study.arms.items()},
        gain=study.settings.gain,
        facts=_facts(results),
        maps=embeddings.pictures(),
    )
    folder = study.folder / FOLDER
    write_bytes(folder / "rows.parquet", _plain(results.rows).to_parquet(index=False))
    write_bytes(folder / "cases.parquet", results.cases.to_parquet(index=False))
    write_json(folder / "statistics.json", statistics)
    write_text(folder / "tables.md", _markdown(facts))
    write_text(folder / "tables.txt", "\n".join(_text(facts)) + "\n")
    name = study.settings.name
    texts = [latex(table, f"tab:{name}-{at}") for at, table in enumerate(all_tables(facts))]
    write_text(folder / "tables.tex", "\n\n".join(texts) + "\n")
    write_report(folder / "report.html", compose(facts))
    return folder


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Nested values as JSON text: rows of different arms have different keys."""
    nested = [name for name in rows.columns if rows[name].map(lambda value: isinstance(value, dict | list)).any()]
    return rows.assign(**{name: rows[name].map(json.dumps) for name in nested})


def _markdown(facts: StudyFacts) -> str:
    found = facts.statistics
    lines = [f"# Study {found['name']}", found["description"], headline(found).verdict]
    lines += [markdown(table) for table in all_tables(facts)]
    if facts.published:
        lines += [f"Published figures: {facts.source}.", told_differences(facts.differences)]
    return "\n\n".join(line for line in lines if line) + "\n"


def _text(facts: StudyFacts) -> list[str]:
    """What came out, in lines of 80 columns."""
    found = facts.statistics
    told = [*wrap(headline(found).verdict, 80), "", *plain(short_table(found))]
    claims = claim_table(found)
    if claims is not None:
        kept = [0, 1, 4]
        short = Table([claims.head[at] for at in kept], [[row[at] for at in kept] for row in claims.rows])
        told += ["", *plain(short)]
    return told


def _facts(results: Results) -> list[tuple[str, str]]:
    """Machine, versions, dates and times of the trainings; all that differ are named."""
    rows = results.rows
    if rows.empty:
        return []
    facts: list[tuple[str, Any]] = [
        ("trainings", str(rows["training"].nunique())),
        ("time of a training, median", clock(float(rows["seconds"].median()))),
        ("steps of a training", _listed(rows["steps"])),
        ("device", _listed(rows["device"])),
        ("precision", _listed(rows["precision"])),
        ("machine", _listed(rows["machine"].map(lambda machine: machine.get("processor", "")))),
        ("threads", _listed(rows["machine"].map(lambda machine: machine.get("threads", "")))),
        ("fewlabel", _listed(rows["versions"].map(lambda versions: versions.get("fewlabel", "")))),
        ("torch", _listed(rows["versions"].map(lambda versions: versions.get("torch", "")))),
        ("revision", _listed(rows["revision"])),
        ("scored", _listed(rows["created"].str[:10])),
    ]
    return [(term, value) for term, value in facts if value]


def _listed(values: pd.Series[Any]) -> str:
    return ", ".join(str(value) for value in dict.fromkeys(values) if str(value))
