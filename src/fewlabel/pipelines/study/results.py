"""What the cells of a study came to: a row for each, and the scores of every test patient."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.engine.record import read_record
from fewlabel.pipelines.executors.jobs import JOBS
from fewlabel.pipelines.study.grid import LEAVES, Cell
from fewlabel.scoring.distance_units import NAMES
from fewlabel.scoring.replicates import Scores

#: Measures of the tables → whether larger is better.
MEASURES = {"dice": True, "hd95_mm": False}
#: What tells cells apart.
CELL = ["arm", "labelled", "draw", "seed"]


@dataclass(frozen=True)
class Results:
    """Tables of a study.

    Attributes:
        rows: A row for each finished cell.
        cases: A row for each cell, scan and class.
        missing: Cells without scores.
    """

    rows: pd.DataFrame
    cases: pd.DataFrame
    missing: tuple[Cell, ...]

    def scores(self, arms: Iterable[str], budget: int | str, measure: str = "dice") -> dict[str, Scores]:
        """(draws, seeds, patients) scores of arms at a number of labelled patients, all on the same axes.

        A patient's score is the mean over scans of the mean over classes that have a value.

        Args:
            arms: Their names; those without scores there are left out.
            budget: Number of labelled patients, or ``all``.
            measure: Column of the cases.
        """
        wanted = list(arms)
        if self.cases.empty:
            return {}
        part = self.cases[(self.cases["labelled"] == str(budget)) & self.cases["arm"].isin(wanted)]
        scans = part.groupby([*CELL, "subject", "case"], sort=False)[measure].mean()
        table = scans.groupby([*CELL, "subject"], sort=False).mean().reset_index()
        axes = {name: sorted(table[name].unique()) for name in ("draw", "seed", "subject")}
        places = {name: {value: at for at, value in enumerate(values)} for name, values in axes.items()}
        found = {}
        for arm in wanted:
            own = table[table["arm"] == arm]
            if own.empty:
                continue
            array = np.full(tuple(len(values) for values in axes.values()), np.nan)
            index = tuple(own[name].map(places[name]).to_numpy(dtype=np.int64) for name in axes)
            array[index] = own[measure].to_numpy(dtype=np.float64)
            if not np.isnan(array).all():
                found[arm] = array
        return found


def collect(root: Path, cells: Iterable[Cell], docs: Mapping[str, str], recorded: Sequence[str] = ()) -> Results:
    """Read the scores of all cells that are done.

    Args:
        root: Folder of the study.
        cells: Of the grid.
        docs: Arm → what it is.
        recorded: Figures of the records whose medians are taken.
    """
    rows, cases, missing = [], [], []
    for cell in cells:
        scores = Artifact.find(root / JOBS / cell.evaluate / LEAVES["evaluate"], "scores")
        if scores is None:
            missing.append(cell)
            continue
        rows.append({**_row(root, cell, scores, docs.get(cell.arm, "")), **_recorded(root, cell, recorded)})
        table = pd.read_parquet(io.BytesIO(scores.content("per_case.parquet"))).rename(columns=NAMES)
        # Cells of all labelled patients have a name of their own, so the column is text.
        table["arm"] = cell.arm
        table["labelled"], table["draw"], table["seed"] = str(cell.budget), cell.draw, cell.seed
        cases.append(table)
    return Results(
        pd.DataFrame(rows),
        pd.concat(cases, ignore_index=True) if cases else pd.DataFrame(),
        tuple(missing),
    )


def _recorded(root: Path, cell: Cell, names: Sequence[str]) -> dict[str, float]:
    """``recorded/NAME`` → the median over the rows of a training, or of its pre-training, that have the figure."""
    folders = [(cell.finetune, "finetune"), *([(cell.pretrain, "pretrain")] if cell.pretrain else [])]
    records = [read_record(root / JOBS / key / LEAVES[stage] / "metrics.jsonl") for key, stage in folders]
    found = {}
    for name in names:
        values = next((rows for rows in ([row[name] for row in rows if name in row] for rows in records) if rows), [])
        known = [value for value in values if value is not None]
        if known:
            found[f"recorded/{name}"] = float(statistics.median(known))
    return found


def _row(root: Path, cell: Cell, scores: Artifact, doc: str) -> dict[str, Any]:
    segmenter = Artifact.open(root / JOBS / cell.finetune / LEAVES["finetune"], "segmenter", check_parents=False)
    summary = scores.json("summary.json")
    mean = summary["arms"]["model"]["mean"]
    steps = [row["seconds"] for row in read_record(segmenter.folder / "metrics.jsonl") if "seconds" in row]
    seconds = segmenter.manifest.wall_seconds
    row = {
        "arm": cell.arm,
        "doc": doc,
        "labelled": str(cell.budget),
        "draw": cell.draw,
        "seed": cell.seed,
        "patients": list(segmenter.json("segmenter.json")["labelled_subjects"]),
        "dice": mean["dice"]["mean"],
        "hd95": (mean.get("hd95_mm") or mean.get("hd95_voxels"))["mean"],
        "units": summary.get("units", "mm"),
        "missed": mean["missed"],
        "invented": mean["invented"],
        "test_scans": summary["cases"],
        "dice_by_class": {
            entry["name"]: entry["dice"]["mean"] for entry in summary["arms"]["model"]["classes"].values()
        },
        "steps": segmenter.manifest.settings["steps"],
        "step_seconds": round(statistics.median(steps), 4) if steps else None,
        "seconds": seconds,
    }
    if cell.pretrain:
        encoder = Artifact.open(root / JOBS / cell.pretrain / LEAVES["pretrain"], "encoder", check_parents=False)
        row |= {"pretrain_steps": encoder.manifest.settings["steps"], "pretrain_seconds": encoder.manifest.wall_seconds}
    made = segmenter.manifest
    return {
        **row,
        "job": cell.evaluate,
        "training": cell.finetune,
        "encoder": cell.pretrain,
        "created": scores.manifest.created,
        "device": made.device,
        "precision": made.precision,
        "machine": made.machine,
        "versions": made.versions,
        "revision": made.git_revision,
    }
