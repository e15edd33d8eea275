"""What it is worth that a classifier begins at how common classes are, in short trainings of few labelled patients.

    python benchmarks/class_prior.py --data PREPARED --work FOLDER --labelled 1 --draws 0 1 2 -- [WORD ...]

Trains each draw and seed with ``class_prior=true`` and ``false`` (WORDs go to both), scores both on one part, by
default that of test scans, and appends a row for each to ``benchmarks/results/class-prior.jsonl``. What is finished in
FOLDER is not trained again. ``--show`` prints the committed rows as a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from common import facts
from fewlabel.core.artifact.files import append_line, read_json
from fewlabel.core.settings.value_syntax import nest
from fewlabel.stages import evaluate, finetune

ROWS = Path(__file__).parent / "results" / "class-prior.jsonl"


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a prepared folder")
    parser.add_argument("--work", type=Path, help="where trainings go")
    parser.add_argument("--labelled", type=int, default=1)
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--part", default="test", choices=["test", "validation"])
    parser.add_argument("--show", action="store_true", help="print what is committed, and train nothing")
    parser.add_argument("words", nargs="*", help="settings of finetune")
    asked = parser.parse_args()
    if not asked.show:
        for draw, seed, value in itertools.product(asked.draws, asked.seeds, (True, False)):
            append_line(ROWS, json.dumps(row(asked, draw, seed, value)))
    print("\n".join(table([json.loads(line) for line in ROWS.read_text().splitlines()])))


def row(asked: argparse.Namespace, draw: int, seed: int, value: bool) -> dict[str, Any]:
    """One training and its scores."""
    name = asked.data.resolve().name
    folder = asked.work.resolve() / f"{name}-{asked.labelled}-{draw}-{seed}-{'prior' if value else 'uniform'}"
    over = {"labelled": asked.labelled, "draw": draw, "seed": seed, "class_prior": value, "resume": True}
    words = {"data": asked.data, "out": folder, **nest(asked.words), **over}
    finetune.run(finetune.SETTINGS.parse(words))
    scores = folder.with_name(f"{folder.name}-scores")
    if not (scores / "summary.json").is_file():
        values = {"data": asked.data, "segmenter": folder, "out": scores, "part": asked.part}
        evaluate.run(evaluate.SETTINGS.parse(values))
    arm = read_json(scores / "summary.json")["arms"]["model"]
    settings = read_json(folder / "manifest.json")["settings"]
    return {
        "data": name,
        "labelled": asked.labelled,
        "draw": draw,
        "seed": seed,
        "class_prior": value,
        "part": asked.part,
        "width": settings["network"]["width"],
        "steps": settings["steps"],
        "dice": round(arm["mean"]["dice"]["mean"], 4),
        "classes": {key: round(of["dice"]["mean"], 4) for key, of in arm["classes"].items()},
        **facts(),
    }


def table(rows: list[dict[str, Any]]) -> list[str]:
    """A line for each data set: both means, the gain of each pair, and trainings that lost a class."""
    lines = [
        "| data | M | width, steps | trainings | Dice from equal shares | Dice from their shares | gain of each "
        "| lost a class, before and now |",
        "|---|---:|---|---:|---:|---:|---|---|",
    ]
    keys = dict.fromkeys((row["data"], row["labelled"], row["width"], row["steps"]) for row in rows)
    for data, labelled, width, steps in keys:
        pairs = {
            (row["draw"], row["seed"], row["class_prior"]): row
            for row in rows
            if (row["data"], row["labelled"], row["width"], row["steps"]) == (data, labelled, width, steps)
        }
        cells = sorted({key[:2] for key in pairs if (*key[:2], True) in pairs and (*key[:2], False) in pairs})
        dice = {value: np.array([pairs[*cell, value]["dice"] for cell in cells]) for value in (False, True)}
        lost = {
            value: sum(min(pairs[*cell, value]["classes"].values()) < 0.05 for cell in cells) for value in (False, True)
        }
        gains = ", ".join(f"{gain:+.3f}" for gain in dice[True] - dice[False])
        lines.append(
            f"| {data} | {labelled} | {width}, {steps} | {len(cells)} | {dice[False].mean():.3f} | "
            f"{dice[True].mean():.3f} | {gains} | {lost[False]}, {lost[True]} |"
        )
    return lines


if __name__ == "__main__":
    main()
