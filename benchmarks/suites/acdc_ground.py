"""The ground below every method on ACDC, part by part, and the default that stands on it.

Choices are made on the split ``develop``. The default and its control are then run once on the literature's test parts,
and each such row says which settings it was made with. Recipe ``acdc-lite``; every arm costs the time of so many
supervised steps. A row for each arm, split, number of labelled patients and draw (for ``ssl4mis``, which has one draw,
seed) goes to ``results/acdc-ground.jsonl``; stopped at any time, the suite goes on where it was. What is not there is
listed as not run by ``python benchmarks/summary.py acdc-ground``.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import fewlabel
from common import facts, settings_hash
from fewlabel.core.artifact import MANIFEST, open_artifact, read_json
from fewlabel.engine.record import read_record
from suites.acdc_lite import RECIPE, append
from suites.ground_arms import ARMS, TRAININGS, Arm, steps_of
from suites.ground_readout import with_statistics

SUITE = "acdc-ground"
#: What a run may cost, in supervised steps: about 25 minutes of two idle cores.
UNITS = 8000
FIVE, THREE, ONE = tuple(range(5)), tuple(range(3)), (0,)
MAIN = ("supervised", "+anatomy", "+statistics", "+post-processing", "weak-to-strong")
ABLATION = ("+geometry", "+intensity", "members-3", "mean_teacher", "bcp")


@dataclass(frozen=True)
class Cell:
    """One row to come: ``draw`` is the number of the draw, or of the seed where a split has one draw."""

    arm: str
    split: str
    labelled: int | None
    draw: int

    @property
    def key(self) -> tuple[str, str, int, int]:
        """What tells rows apart; all labelled patients count as 0."""
        return self.arm, self.split, self.labelled or 0, self.draw


#: What the default was chosen to be, and its control, which are the only arms that meet the test parts.
DEFAULT, CONTROL = "weak-to-strong", "+post-processing"


def plan() -> Iterator[Cell]:
    """All cells of the table, the most wanted first."""
    for labelled in (1, 2):
        for draw in FIVE:
            yield from (Cell(arm, "develop", labelled, draw) for arm in MAIN)
    for draw in THREE:
        yield from (Cell(arm, "develop", 1, draw) for arm in ABLATION)
    yield Cell("upper-bound", "develop", None, 0)
    for split, labelled, draws in (
        ("chaitanya", 1, FIVE),
        ("chaitanya", 2, FIVE),
        ("ssl4mis", 1, THREE),
        ("ssl4mis", 3, THREE),
        ("ssl4mis", 7, THREE),
        ("chaitanya", 8, THREE),
    ):
        for draw in draws:
            yield from (Cell(arm, split, labelled, draw) for arm in (DEFAULT, CONTROL))


def run(data: Path, work: Path, results: Path, chosen: list[str]) -> None:
    """Run what is missing and append a row for each cell.

    Args:
        data: Folder of ACDC.
        work: Where runs are kept.
        results: Folder of the table.
        chosen: Arms, or ``SPLIT/ARM``; all that choices are made on if empty: the test parts have to be named.
    """
    path = results / f"{SUITE}.jsonl"
    cells = [cell for cell in plan() if wanted(cell, chosen)]
    missing = [cell for cell in cells if cell.key not in made(path)]
    trainings = {(ARMS[cell.arm].training, *cell.key[1:]) for cell in missing}
    print(
        f"{len(missing)} of {len(cells)} rows to make, by {len(trainings)} trainings of {UNITS} supervised steps each."
    )
    took = [row["seconds"] for row in rows(path)]
    if took:
        print(f"About {len(trainings) * statistics.median(took) / 3600:.1f} hours, as the rows so far took.")
    for cell in missing:
        # Another process may share the work.
        if cell.key not in made(path):
            append(path, _row(cell, data, work / SUITE))


def wanted(cell: Cell, chosen: list[str]) -> bool:
    """Whether a cell is asked for."""
    if not chosen:
        return cell.split == "develop"
    return any(word in {cell.arm if cell.split == "develop" else "", f"{cell.split}/{cell.arm}"} for word in chosen)


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of the table so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def made(path: Path) -> set[tuple[str, str, int, int]]:
    """Keys of the rows so far."""
    return {(row["arm"], row["split"], row["labelled"], row["draw"]) for row in rows(path)}


def _row(cell: Cell, data: Path, work: Path) -> dict[str, Any]:
    arm = ARMS[cell.arm]
    folder = work / cell.split
    prepared = fewlabel.prepare(recipe=RECIPE, data=data, out=folder / "prepared", split=cell.split)
    name = f"{arm.training}-m{cell.labelled or 'all'}-d{cell.draw}"
    settings = settings_of(arm, cell)
    segmenter = folder / name
    if not (segmenter / MANIFEST).is_file():
        fewlabel.finetune(data=prepared, out=segmenter, resume=True, **settings)
    seconds = open_artifact(segmenter, check_parents=False).wall_seconds
    steps = [row["seconds"] for row in read_record(segmenter / "metrics.jsonl") if "seconds" in row]
    started = time.monotonic()
    if arm.statistics:
        segmenter = with_statistics(prepared, segmenter, folder / f"{name}-statistics")
    scores = folder / f"scores-{cell.arm}-m{cell.labelled or 'all'}-d{cell.draw}"
    fewlabel.evaluate(data=prepared, segmenter=segmenter, out=scores, postprocess=arm.postprocess)
    return {
        "suite": SUITE,
        "arm": cell.arm,
        "split": cell.split,
        "labelled": cell.labelled or 0,
        "draw": cell.draw,
        **figures(prepared, scores),
        "steps": settings["steps"],
        "step_seconds": round(statistics.median(steps), 4),
        "seconds": round((seconds or 0.0) + time.monotonic() - started, 1),
        "settings": settings_hash(settings),
        **facts(),
    }


def settings_of(arm: Arm, cell: Cell) -> dict[str, Any]:
    """Settings of the fine-tuning of a cell."""
    training = TRAININGS[arm.training]
    drawn = {"draw": 0, "seed": cell.draw} if cell.split == "ssl4mis" else {"draw": cell.draw}
    return {
        "recipe": RECIPE,
        "labelled": cell.labelled,
        **(drawn if cell.labelled else {}),
        "control": False,
        "validation": "none",
        "recalibrate": "never",
        "regime": dict(training.regime),
        "augment": dict(training.augment),
        "steps": steps_of(training, UNITS),
        **training.settings,
    }


def figures(prepared: Path, scores: Path) -> dict[str, Any]:
    """Means over scored cases and classes, per class, of ED and ES apart, and the worst scans."""
    summary = read_json(scores / "summary.json")
    mean = summary["arms"]["model"]["mean"]
    table = pd.read_parquet(scores / "per_case.parquet")
    phases = pd.read_parquet(prepared / "catalog.parquet").set_index("case")["phase"].astype(str)
    table["phase"] = table["case"].map(phases)
    cases = table.groupby("case")["dice"].mean().sort_values()
    return {
        "dice": mean["dice"]["mean"],
        "dice_by_class": dict(_means(table, "class_name")),
        "dice_by_phase": dict(_means(table, "phase")),
        "hd95_mm": mean["hd95_mm"]["mean"],
        "missed": mean["missed"],
        "invented": mean["invented"],
        "lost": {name: int((part["dice"] < 0.01).sum()) for name, part in table.groupby("class_name")},
        "worst": {case: round(float(value), 3) for case, value in cases.head(5).items()},
        "test_cases": summary["cases"],
    }


def _means(table: pd.DataFrame, column: str) -> Iterator[tuple[str, float]]:
    for name, part in table.groupby(column):
        yield str(name), round(float(part.groupby("case")["dice"].mean().mean()), 4)


def not_run(path: Path) -> list[Mapping[str, Any]]:
    """Cells of the plan without a row."""
    there = made(path)
    return [
        dict(zip(("arm", "split", "labelled", "draw"), cell.key, strict=True))
        for cell in plan()
        if cell.key not in there
    ]
