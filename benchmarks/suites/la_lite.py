"""Volumes: regimes that work in 3D on the left atrium beside the supervised control, at equal numbers of steps.

Recipe ``la-lite``, two labelled volumes, one run of each arm; the other training volumes are unlabelled. A row per arm
in ``results/la-lite.jsonl`` has the mean Dice over the test volumes and, to show the learning, the soft Dice loss of
labelled patches in the first and the last tenth of the run. Stopped at any time, the suite goes on where it was.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import fewlabel
from common import facts
from fewlabel.core.artifact import read_json
from fewlabel.engine.record import read_record
from suites.acdc_lite import append, done

SUITE = "la-lite"
ARMS: dict[str, dict[str, Any]] = {
    "mean_teacher": {"name": "mean_teacher"},
    "scratch": {"name": "supervised"},
    "arco": {"name": "arco"},
    "cps": {"name": "cps"},
}
LABELLED = 2


def run(data: Path, work: Path, results: Path, chosen: list[str]) -> None:
    """Run what is missing and append a row per arm."""
    path = results / f"{SUITE}.jsonl"
    prepared = fewlabel.prepare(recipe=SUITE, data=data, out=work / "la" / "prepared")
    for arm in chosen or list(ARMS):
        if not done(path, arm, LABELLED, 0):
            append(path, _row(work / "la", prepared, arm))


def _row(work: Path, prepared: Path, arm: str) -> dict[str, Any]:
    """Fine-tune one arm, evaluate it on the test volumes, and describe both."""
    started = time.monotonic()
    segmenter = fewlabel.finetune(
        recipe=SUITE,
        data=prepared,
        out=work / f"segmenter-{arm}",
        resume=True,
        regime=ARMS[arm],
        labelled=LABELLED,
        control=False,
        validation="none",
    )
    scores = work / f"scores-{arm}"
    fewlabel.evaluate(data=prepared, segmenter=segmenter, out=scores, surface=False)
    summary = read_json(scores / "summary.json")
    record = read_record(segmenter / "metrics.jsonl")
    supervised = [(row["step"], row["term/dice"]) for row in record if "term/dice" in row]
    first, last = supervised[: max(len(supervised) // 10, 1)], supervised[-max(len(supervised) // 10, 1) :]
    return {
        "suite": SUITE,
        "arm": arm,
        "labelled": LABELLED,
        "draw": 0,
        "regime": ARMS[arm],
        "dice": summary["arms"]["model"]["mean"]["dice"]["mean"],
        "test_cases": summary["cases"],
        "dice_loss_first": round(statistics.mean(value for _, value in first), 4),
        "dice_loss_last": round(statistics.mean(value for _, value in last), 4),
        "finetune_step_seconds": round(statistics.median(row["seconds"] for row in record if "seconds" in row), 4),
        "seconds": round(time.monotonic() - started, 1),
        **facts(),
    }
