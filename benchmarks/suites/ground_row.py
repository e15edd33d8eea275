"""How a cell of a ground suite becomes a row: prepare, pre-train where the arm does, fine-tune, evaluate."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

import fewlabel
from common import facts, settings_hash
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST, read_json
from fewlabel.engine.record import read_record
from suites.ground import Cell, Ground
from suites.ground_arms import ARMS, TRAININGS, encoder_steps, steps_of
from suites.ground_readout import with_statistics

#: Recipe of the pre-training of the arms that have one.
RECIPE = "acdc-lite"


def row_of(ground: Ground, cell: Cell, data: Path, work: Path) -> dict[str, Any]:
    """Make what a cell needs and is not there yet, and describe it.

    Args:
        ground: The suite.
        cell: The cell.
        data: Folder of the data set.
        work: Folder of the suite's runs.
    """
    arm, home, name = ARMS[cell.arm], work / ground.home(cell), ground.training(cell)
    prepared = fewlabel.prepare(data=data, out=home / "prepared", **prepare_settings(ground, cell))
    settings, before = settings_of(ground, cell), pretrain_settings(ground, cell)
    segmenter, encoder, seconds = home / name, None, 0.0
    if before is not None:
        encoder = home / f"encoder-{before['method']['name']}"
        fewlabel.pretrain(data=prepared, out=encoder, resume=True, **before)
        seconds += _seconds(encoder)
    if not (segmenter / MANIFEST).is_file():
        fewlabel.finetune(data=prepared, out=segmenter, encoder=encoder, resume=True, **settings)
    seconds += _seconds(segmenter)
    steps = [row["seconds"] for row in read_record(segmenter / "metrics.jsonl") if "seconds" in row]
    started = time.monotonic()
    if arm.statistics:
        segmenter = with_statistics(prepared, segmenter, home / f"{name}-statistics")
    part = ground.splits[cell.split].part
    scores = home / f"scores-{part}-{cell.arm}-m{cell.labelled or 'all'}-d{cell.draw}"
    fewlabel.evaluate(data=prepared, segmenter=segmenter, out=scores, part=part, postprocess=arm.postprocess)
    return {
        "suite": ground.suite,
        "arm": cell.arm,
        "split": cell.split,
        "labelled": cell.labelled or 0,
        "draw": cell.draw,
        **figures(prepared, scores),
        "steps": settings["steps"],
        "step_seconds": round(statistics.median(steps), 4),
        **({} if before is None else {"pretrain_steps": before["steps"]}),
        "seconds": round(seconds + time.monotonic() - started, 1),
        "settings": settings_hash(settings if before is None else {**settings, "pretrain": before}),
        **facts(),
    }


def prepare_settings(ground: Ground, cell: Cell) -> dict[str, Any]:
    """Settings of the preparation that a cell is made from."""
    split = ground.splits[cell.split]
    seed = {"seed": cell.draw} if split.numbers == "parts" else {}
    return {"recipe": ground.recipe, **split.prepare, **seed, **(ground.crop if ground.middle(cell) else {})}


def pretrain_settings(ground: Ground, cell: Cell) -> dict[str, Any] | None:
    """Settings of the pre-training of a cell, the same for all draws; None where its arm begins from scratch."""
    encoder = TRAININGS[ARMS[cell.arm].training].encoder
    if encoder is None:
        return None
    return {
        # Where settings of methods are.
        "recipe": RECIPE,
        "method": {"name": encoder.method},
        "steps": encoder_steps(encoder, ground.units),
    }


def settings_of(ground: Ground, cell: Cell) -> dict[str, Any]:
    """Settings of the fine-tuning of a cell."""
    training = TRAININGS[ARMS[cell.arm].training]
    seeded = ground.splits[cell.split].numbers == "seeds"
    given = {key: value for key, value in ground.finetune.items() if training.encoder is None or key != "network"}
    drawn = {"draw": 0, "seed": cell.draw} if seeded else {"draw": cell.draw}
    return {
        "recipe": ground.recipe,
        "labelled": cell.labelled,
        **(drawn if cell.labelled else {}),
        "control": False,
        "validation": "none",
        "recalibrate": "never",
        "regime": dict(training.regime),
        "augment": dict(training.augment),
        "steps": steps_of(training, ground.units, ground.costs),
        **given,
        **({"view": None} if ground.middle(cell) else {}),
        **training.settings,
    }


def figures(prepared: Path, scores: Path) -> dict[str, Any]:
    """Means over scored cases and classes, per class, of each phase where scans have one, and the worst scans."""
    summary = read_json(scores / "summary.json")
    mean = summary["arms"]["model"]["mean"]
    table = pd.read_parquet(scores / "per_case.parquet")
    catalog = pd.read_parquet(prepared / "catalog.parquet").set_index("case")
    phased = "phase" in catalog
    if phased:
        table["phase"] = table["case"].map(catalog["phase"].astype(str))
    cases = table.groupby("case")["dice"].mean().sort_values()
    return {
        "dice": mean["dice"]["mean"],
        "dice_by_class": dict(_means(table, "class_name")),
        **({"dice_by_phase": dict(_means(table, "phase"))} if phased else {}),
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


def _seconds(folder: Path) -> float:
    """Of the training that left an artifact."""
    return Artifact.open(folder, check_parents=False).manifest.wall_seconds or 0.0
