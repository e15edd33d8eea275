"""Narrow and long, wide and short, or coarse and longer still: what short trainings reach in about equal time.

    python benchmarks/widths.py --data PREPARED --work FOLDER --trainings 8:5:1200 16:4:1000 --draws 0 1 2

Trains each WIDTH:DEPTH:STEPS for each draw by the settings of recipe ``acdc-lite`` on the grid of PREPARED, scores it
on one part, by default that of test scans (prepare with ``split=develop``: no one else's test patients choose
anything), and appends a row for each to ``benchmarks/results/widths.jsonl``. What is finished in FOLDER is not trained
again, and rows that are there stay. ``--show`` prints the committed rows as a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
from pathlib import Path
from typing import Any

from common import facts
from fewlabel.core.artifact.files import append_line, read_json
from fewlabel.pipelines.stage_table import stage_settings
from fewlabel.stages import evaluate, finetune

ROWS = Path(__file__).parent / "results" / "widths.jsonl"
RECIPE = "acdc-lite"


def main() -> None:
    """Train, score and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a prepared folder")
    parser.add_argument("--work", type=Path, help="where trainings go")
    parser.add_argument("--trainings", nargs="+", default=["8:5:1200", "16:5:480"], metavar="WIDTH:DEPTH:STEPS")
    parser.add_argument("--labelled", type=int, default=1, help="labelled patients; 0 for all")
    parser.add_argument("--draws", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--part", default="test", choices=["test", "validation"])
    parser.add_argument("--show", action="store_true", help="print what is committed, and train nothing")
    asked = parser.parse_args()
    if not asked.show:
        there = {key(row) for row in rows()}
        grid = grid_of(asked.data)
        for training, draw in itertools.product(asked.trainings, asked.draws):
            width, depth, steps = map(int, training.split(":"))
            if (grid, asked.labelled, width, depth, steps, draw) not in there:
                append_line(ROWS, json.dumps(row_of(asked, width, depth, steps, draw)))
    print("\n".join(table(rows())))


def rows() -> list[dict[str, Any]]:
    """The committed rows."""
    return [json.loads(line) for line in ROWS.read_text().splitlines()] if ROWS.is_file() else []


def grid_of(prepared: Path) -> str:
    """Pixels and their size, as ``72x72 at 2.5 mm``."""
    plan = read_json(prepared / "plan.json")
    return f"{plan['size'][0]}x{plan['size'][1]} at {plan['spacing'][0]:g} mm"


def key(row: dict[str, Any]) -> tuple[str, int, int, int, int, int]:
    """What tells rows apart."""
    return row["grid"], row["labelled"], row["width"], row["depth"], row["steps"], row["draw"]


def row_of(asked: argparse.Namespace, width: int, depth: int, steps: int, draw: int) -> dict[str, Any]:
    """One training and its scores."""
    folder = asked.work.resolve() / f"w{width}-depth{depth}-{steps}-m{asked.labelled}-d{draw}"
    over = {"labelled": asked.labelled or None, "draw": draw, "steps": steps}
    network = {"width": width, "depth": depth}
    words = {"data": asked.data.resolve(), "out": folder, "validation": "none", "regime": "supervised"}
    finetune.run(stage_settings("finetune", {**words, **over, "network": network, "resume": True}, RECIPE))
    scores = folder.with_name(f"{folder.name}-scores")
    if not (scores / "summary.json").is_file():
        values = {"data": asked.data.resolve(), "segmenter": folder, "out": scores, "part": asked.part}
        evaluate.run(evaluate.SETTINGS.parse(values))
    arm = read_json(scores / "summary.json")["arms"]["model"]
    logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    step = statistics.median(row["seconds"] for row in logged if row.get("step") and "seconds" in row)
    return {
        "grid": grid_of(asked.data),
        "labelled": asked.labelled,
        "width": width,
        "depth": depth,
        "steps": steps,
        "draw": draw,
        "part": asked.part,
        "step_seconds": round(step, 4),
        "dice": round(arm["mean"]["dice"]["mean"], 4),
        "classes": {name: round(of["dice"]["mean"], 4) for name, of in arm["classes"].items()},
        **facts(),
    }


def table(found: list[dict[str, Any]]) -> list[str]:
    """A line for each grid, number of labelled patients, network and steps: Dice over draws, seconds of a training."""
    lines = [
        "| grid | M | width | depth | steps | seconds of training | draws | Dice | of each draw |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for group in sorted(dict.fromkeys(key(row)[:-1] for row in found)):
        of = sorted((row for row in found if key(row)[:-1] == group), key=lambda row: int(row["draw"]))
        grid, labelled, width, depth, steps = group
        took = steps * statistics.median(row["step_seconds"] for row in of)
        mean, each = statistics.fmean(row["dice"] for row in of), ", ".join(f"{row['dice']:.3f}" for row in of)
        first = f"| {grid} | {labelled or 'all'} | {width} | {depth} | {steps} | {took:.0f} "
        lines.append(f"{first}| {len(of)} | {mean:.3f} | {each} |")
    return lines


if __name__ == "__main__":
    main()
