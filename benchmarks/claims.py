"""What committed rows of the shipped studies say of published claims: ``python benchmarks/claims.py``.

``--add FOLDER`` takes the rows of a study from its folder into ``results/studies/NAME-SIZE.jsonl``: a line for each
cell, with the scores of every test patient, in place of older rows of the same cells. Each claim then holds, does not
hold or cannot be told, by the paired test of the study; what has no rows was not run yet. ``docs/generate.py`` writes
the same into the documentation.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fewlabel.core.artifact.files import read_json, write_text
from fewlabel.core.errors import Fault, SettingsError
from fewlabel.pipelines.study import study_names, study_of, study_values
from fewlabel.pipelines.study.analysis import analyse
from fewlabel.pipelines.study.published import published_of
from fewlabel.pipelines.study.results import Results
from fewlabel.pipelines.study.spec import Study
from fewlabel.reporting.blocks import Table
from fewlabel.reporting.study.as_text import markdown
from fewlabel.reporting.study.page import told_differences
from fewlabel.reporting.study.tables import claim_table, results_table

ROWS = Path(__file__).parent / "results" / "studies"
MEASURES = ("dice", "hd95_mm")
CELL = ("arm", "labelled", "draw", "seed")
NOT_RUN = "not run yet"
#: Facts of a training that a row keeps.
FACTS = (
    "steps",
    "seconds",
    "pretrain_steps",
    "pretrain_seconds",
    "created",
    "device",
    "precision",
    "revision",
    "units",
)


def shipped(name: str, size: str) -> Study:
    """A study as it is shipped; its data are anybody's."""
    sources = {source: {"data": "data"} for source in study_values(name).get("sources", {})}
    return study_of(name, {"data": "data", "out": "out", "size": size, "sources": sources})


def sizes(name: str) -> list[str]:
    """Sizes of a shipped study."""
    return list(study_values(name).get("sizes", {}))


def rows_of(name: str, size: str, folder: Path = ROWS) -> list[dict[str, Any]]:
    """Committed rows of a study."""
    path = folder / f"{name}-{size}.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def add(study: Path, folder: Path = ROWS) -> Path:
    """Take the rows of a study into the committed ones.

    Args:
        study: Folder of the study.
        folder: Of the committed rows.

    Returns:
        The file.

    Raises:
        SettingsError: If it is no shipped study, or an arm is not what the shipped one says.
    """
    settings = read_json(study / "study.json")["settings"]
    name, size = settings["name"], settings["size"]
    faults = _differences(settings)
    if faults:
        raise SettingsError("Rows are kept of studies as they are shipped:", faults)
    found = pd.read_parquet(study / "results" / "rows.parquet")
    cases = pd.read_parquet(study / "results" / "cases.parquet")
    scans = cases.groupby([*CELL, "subject", "case"], sort=False)[list(MEASURES)].mean()
    patients = scans.groupby([*CELL, "subject"], sort=False).mean().sort_index()
    kept = {_key(row): row for row in rows_of(name, size, folder)}
    for row in found.to_dict("records"):
        own = patients.loc[tuple(row[key] for key in CELL)].round(5)
        facts = {key: row[key] for key in FACTS if key in row and not pd.isna(row[key])}
        scores = {measure: {who: _known(value) for who, value in own[measure].items()} for measure in MEASURES}
        machine, versions = (json.loads(row[key]) for key in ("machine", "versions"))
        made = {"processor": machine.get("processor"), "threads": machine.get("threads"), "torch": versions["torch"]}
        new = {**{key: row[key] for key in CELL}, **scores, **facts, **made, "fewlabel": versions["fewlabel"]}
        kept[_key(new)] = new
    path = folder / f"{name}-{size}.jsonl"
    write_text(path, "".join(json.dumps(kept[key]) + "\n" for key in sorted(kept)))
    return path


def _key(row: Mapping[str, Any]) -> tuple[str, str, int, int]:
    return str(row["labelled"]), str(row["arm"]), int(row["draw"]), int(row["seed"])


def _known(value: float) -> float | None:
    return None if pd.isna(value) else float(value)


def _differences(settings: Mapping[str, Any]) -> list[Fault]:
    """What a study says otherwise than the shipped one of its name and size."""
    name, size = settings["name"], settings["size"]
    if name not in study_names() or size not in sizes(name):
        return [Fault(f'"{name}" of size "{size}" is no shipped study', "study", "See fewlabel study --list")]
    record = shipped(name, size).settings.record()
    compared = ("recipe", "split", "resplit", "prepare", "pretrain", "finetune", "evaluate", "minutes", "encoders")
    faults = [
        Fault(f"{settings[key]!r} is not the shipped {record[key]!r}", key, "Run the study without it")
        for key in compared
        if _plain(settings[key]) != _plain(record[key])
    ]
    arms = {arm: asked for arm, asked in settings["arms"].items() if arm not in settings["skip"]}
    return faults + [
        Fault("is not the arm that is shipped", f"arms.{arm}", "Give it another study")
        for arm, asked in arms.items()
        if _plain(asked) != _plain(record["arms"].get(arm))
    ]


def _plain(value: Any) -> Any:
    """A group of settings without the device, which decides no result."""
    return {key: inner for key, inner in value.items() if key != "device"} if isinstance(value, dict) else value


def statistics(study: Study, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All statistics of a study, of its committed rows."""
    cases = [
        {**{key: row[key] for key in CELL}, "subject": who, "case": who}
        | {measure: row[measure][who] for measure in MEASURES}
        for row in rows
        for who in row["dice"]
    ]
    table = pd.DataFrame(cases).astype(dict.fromkeys(MEASURES, "float64"))
    return analyse(study, Results(pd.DataFrame({"units": [row["units"] for row in rows]}), table, ()))


def claims(study: Study, found: Mapping[str, Any] | None) -> Table | None:
    """The claims of a study with what is known of each; None for a study without claims."""
    if not study.claims:
        return None
    told = None if found is None else claim_table(found)
    if told is not None:
        run = [list(row) if row[2] != "not run" else [*row[:2], NOT_RUN, row[3], NOT_RUN] for row in told.rows]
        return Table(told.head, run)
    head = ["claim", "M", "difference of Dice here (95 % interval)", "corrected p", "it"]
    return Table(head, [[claim.text, "", "", "", NOT_RUN] for claim in study.claims])


def lines(folder: Path = ROWS, names: Sequence[str] = ()) -> list[str]:
    """Of shipped studies their claims and, where there are rows, results, as Markdown; how many hold comes first.

    Args:
        folder: Of the committed rows.
        names: Of the studies; all if empty.
    """
    verdicts: Counter[str] = Counter()
    told: list[str] = []
    for name in names or study_names():
        for size in sizes(name):
            study, rows = shipped(name, size), rows_of(name, size, folder)
            if not rows and (size != sizes(name)[0] or any(rows_of(name, other, folder) for other in sizes(name))):
                # What was not run is told once for a study.
                continue
            found = statistics(study, rows) if rows else None
            table = claims(study, found)
            told += [f"### `{name}`" + (f", size {size}" if rows else ""), "", study.settings.description, ""]
            if found is not None:
                figures = published_of(study)[0]
                told += [_made(rows), "", markdown(results_table(found, figures)), ""]
                told += [told_differences(study.settings.published.differences), ""] if figures else []
            if table is not None:
                verdicts.update(row[-1] for row in table.rows)
                told += [markdown(table), ""]
            elif not rows:
                told += [f"It tests no published claim, and was {NOT_RUN}.", ""]
    counted = ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items()))
    return [f"Claims at each number of labelled patients: {counted}.", "", *told[:-1]]


def _made(rows: Sequence[Mapping[str, Any]]) -> str:
    """Where and when rows were made."""
    dates = sorted(str(row["created"])[:10] for row in rows)
    # One that was paused in the midst of its training has none.
    seconds = sum(row.get("seconds", 0.0) for row in rows)
    where = ", ".join(sorted({f"{row['processor']}, {row['threads']} threads" for row in rows}))
    return f"{len(rows)} cells of {dates[0]} to {dates[-1]}, {seconds / 3600:.1f} hours of fine-tuning; {where}."


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--add", type=Path, metavar="FOLDER", help="folder of a study whose rows are to be kept")
    asked = parser.parse_args()
    if asked.add is not None:
        print(f"rows: {add(asked.add)}")
    print("\n".join(lines()))
