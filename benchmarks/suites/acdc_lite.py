"""ACDC at 128x128, 1.5 mm, width 16: scratch, SimCLR and the steps from one meta label to full GCL.

One pre-training per arm, then one fine-tuning per number of labelled patients and draw. Every finished row is
appended to ``results/acdc-lite.jsonl`` and skipped when the suite is started again; runs resume where they stopped.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import fewlabel
from common import facts, recipe_hash
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import read_json
from fewlabel.engine.record import read_record
from suites.as_it_was import AS_IT_WAS

#: Arm → settings over the recipe's pre-training; None is the supervised control.
ARMS: dict[str, dict[str, Any] | None] = {
    "scratch": None,
    "simclr": {"name": "simclr"},
    "position": {"name": "gcl", "labels": ["position"], "pixel": False, "combine": "mean"},
    "summed": {"name": "gcl", "pixel": False, "combine": "mean"},
    "mitigator": {"name": "gcl", "pixel": False, "combine": "mitigator"},
    "gcl": {"name": "gcl"},
}
RECIPE = "acdc-lite"
#: Numbers of labelled patients, and how many of the split's draws of them: more for the two that the question is about.
BUDGETS = (1, 2)
DRAWS = {"scratch": 5, "gcl": 5}
FEWER = 3


def run(data: Path, work: Path, results: Path, chosen: list[str]) -> None:
    """Run what is missing and append a row per fine-tuning."""
    path = results / "acdc-lite.jsonl"
    prepared = fewlabel.prepare(recipe=RECIPE, data=data, out=work / "prepared")
    arms = {name: ARMS[name] for name in chosen} if chosen else ARMS
    for arm, method in arms.items():
        encoder = None
        if method is not None:
            encoder = fewlabel.pretrain(
                recipe=RECIPE, data=prepared, out=work / f"encoder-{arm}", method=method, resume=True
            )
        for labelled in BUDGETS:
            for draw in range(DRAWS.get(arm, FEWER)):
                if not done(path, arm, labelled, draw):
                    append(path, score("acdc-lite", work, prepared, encoder, arm, labelled, draw))


def found(path: Path, arm: str, labelled: int, draw: int) -> dict[str, Any] | None:
    """The row of one fine-tuning, if it is there."""
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    same = [row for row in rows if (row["arm"], row["labelled"], row["draw"]) == (arm, labelled, draw)]
    return same[0] if same else None


def done(path: Path, arm: str, labelled: int, draw: int) -> bool:
    """Whether a fine-tuning needs not be run again."""
    return found(path, arm, labelled, draw) is not None


def score(
    suite: str,
    work: Path,
    prepared: Path,
    encoder: Path | None,
    arm: str,
    labelled: int,
    draw: int,
    /,
    **settings: Any,
) -> dict[str, Any]:
    """Fine-tune, evaluate on the test patients, and describe both in a row.

    Args:
        suite: Name of the table.
        work: Folder of the runs.
        prepared: Prepared folder.
        encoder: Encoder to start from, or None.
        arm: Name of the row.
        labelled: M.
        draw: Which draw of M patients, and number of the row.
        settings: Further settings of the fine-tuning: another ``recipe``, or ``draw`` where rows are numbered by
            something else.
    """
    name = f"{arm}-m{labelled}-d{draw}"
    started = time.monotonic()
    segmenter = fewlabel.finetune(
        data=prepared,
        out=work / f"segmenter-{name}",
        encoder=encoder,
        resume=True,
        **{
            "recipe": RECIPE,
            "labelled": labelled,
            "draw": draw,
            "control": False,
            "validation": "none",
            **AS_IT_WAS,
            **settings,
        },
    )
    scores = work / f"scores-{name}"
    fewlabel.evaluate(data=prepared, segmenter=segmenter, out=scores, surface=False)
    steps = [row["seconds"] for row in read_record(segmenter / "metrics.jsonl") if "seconds" in row]
    row = {
        "suite": suite,
        "arm": arm,
        "labelled": labelled,
        "draw": draw,
        **_figures(read_json(scores / "summary.json")),
        "finetune_step_seconds": round(statistics.median(steps), 4),
        "seconds": round(time.monotonic() - started, 1),
        "recipe": recipe_hash(settings.get("recipe", RECIPE)),
        **facts(),
    }
    if encoder is not None:
        pretraining = [entry["seconds"] for entry in read_record(encoder / "metrics.jsonl")]
        row["pretrain_step_seconds"] = round(statistics.median(pretraining), 4)
        row["pretrain_seconds"] = Artifact.open(encoder).manifest.wall_seconds
    return row


def _figures(summary: dict[str, Any]) -> dict[str, Any]:
    """Means over test cases and classes, per class, and counts, out of an evaluation's summary."""
    arm = summary["arms"]["model"]
    return {
        "dice": arm["mean"]["dice"]["mean"],
        "dice_by_class": {entry["name"]: entry["dice"]["mean"] for entry in arm["classes"].values()},
        "missed": arm["mean"]["missed"],
        "invented": arm["mean"]["invented"],
        "test_cases": summary["cases"],
    }


def append(path: Path, row: dict[str, Any]) -> None:
    """Add a row to a results file and print it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    print(f"{row['arm']} M={row['labelled']} draw {row['draw']}: Dice {row['dice']:.3f} ({row['seconds']} s)")
