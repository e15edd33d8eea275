"""A sitting with fewlabel: two patients are annotated; then a scan is suggested, corrected and learnt from, and again.

    python benchmarks/sitting.py --data ACDC --work FOLDER [--rounds 2] [--learn steps=200] [--seed 0] [WORD ...]

DATA is annotated throughout. The sitting is shown the masks of two patients, and of those who test: they take no part,
and every round is scored on them. The person's correction is the mask of DATA for the scan that was suggested. Commands
and what they print are printed as a person sees them; WORDs go to ``train``. At the end stands the Dice after each
round. A sitting that was stopped goes on where it was: what is in FOLDER is not done again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from fewlabel.core.artifact.files import read_json
from fewlabel.data.catalog import Catalog
from fewlabel.data.io.file_names import file_stem
from fewlabel.data.store import PreparedStore
from fewlabel.readers.base import choose_reader, collected

#: A bar as it stood at a moment, and the forecast of a run whose true times follow.
_BAR = re.compile(r"\S.*\s\d+/\d+\s+\d+:\d\d")


def main() -> None:
    """Hold the sitting that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=2, help="rounds of suggest, correct and learn")
    parser.add_argument("--learn", default="budget=4m", help="settings of each round, with spaces between")
    parser.add_argument("--unlabelled", type=int, default=18, help="patients without masks")
    parser.add_argument("--test", type=int, default=8, help="patients who take no part")
    parser.add_argument("--seed", type=int, default=0, help="of the choice of patients")
    parser.add_argument("words", nargs="*", help="settings of train")
    asked = parser.parse_args()
    choice = choose_reader(asked.data)
    catalog = collected(choice.reader, choice.place)
    asked.work.mkdir(parents=True, exist_ok=True)
    write_table(catalog, asked.work, asked.unlabelled, asked.test, asked.seed)
    masks = {case.id: case.label for case in catalog.cases if case.label is not None}
    os.chdir(asked.work)
    rows = [("train", *first_round(asked.words))]
    words = shlex.split(asked.learn)
    rows += [(f"round {number}", *next_round(number, words, masks)) for number in range(1, asked.rounds + 1)]
    print("\n| after | annotated scans | Dice on patients who took no part | time |\n|---|---:|---:|---:|")
    for name, scans, dice, seconds in rows:
        print(f"| {name} | {scans} | {dice:.3f} | {int(seconds // 60)}:{int(seconds % 60):02d} |")


def write_table(catalog: Catalog, folder: Path, unlabelled: int, test: int, seed: int) -> None:
    """``scans.csv`` and ``labels.json``: patients in random order test, two are annotated, the others follow."""
    twins = {name for group in catalog.known_equal for name in group}
    order = [name for name in catalog.labelled_subjects if name not in twins]
    np.random.default_rng(seed).shuffle(order)
    order = order[: test + 2 + unlabelled]
    testing, annotated = set(order[:test]), set(order[test : test + 2])
    columns = [column.name for column in catalog.columns]
    rows = []
    for case in catalog.cases:
        if case.subject in order:
            known = case.label if case.subject in testing | annotated else None
            images = ";".join(map(str, case.images))
            own = [case.metadata.get(name) for name in columns]
            rows.append([case.id, case.subject, images, known, "test" if case.subject in testing else "", *own])
    with (folder / "scans.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["case", "subject", "image", "label", "part", *columns], *rows])
    (folder / "labels.json").write_text(json.dumps({str(v): name for v, name in catalog.label_names.items() if v}))


def first_round(words: list[str]) -> tuple[int, float, float]:
    """Annotated scans, Dice and seconds of what ``train`` makes of the two patients."""
    run = Path("run")
    if not (run / "scores" / "summary.json").is_file():
        shell("train", "scans.csv", "--out", "run", *words, *(["--resume"] if run.exists() else []))
    stages = [read_json(path) for path in run.glob("*/manifest.json")]
    annotated = annotated_scans(run / "prepared", run / "segmenter")
    return annotated, dice_of(run / "scores"), sum(float(stage.get("wall_seconds") or 0) for stage in stages)


def next_round(number: int, words: list[str], masks: dict[str, Path]) -> tuple[int, float, float]:
    """The same of a round, for which one scan is suggested and corrected."""
    made, scores = Path("run", "rounds", str(number)), Path("scores", str(number))
    if not (made / "manifest.json").is_file():
        shell("suggest", "run", "--count", "1")
        with Path("run", "suggestions.csv").open(encoding="utf-8") as file:
            case = next(csv.DictReader(file))["case"]
        corrected = Path("run", "annotations", f"{case}{masks[case].name.removeprefix(file_stem(masks[case]))}")
        corrected.parent.mkdir(exist_ok=True)
        print(f"# the person corrects {case}, and saves {corrected}")
        shutil.copyfile(masks[case], corrected)
        shell("learn", "run", *words)
    if not (scores / "summary.json").is_file():
        shell("evaluate", f"{made}/prepared", "--segmenter", f"{made}/segmenter", "--out", str(scores))
    record = read_json(made / "round.json")
    annotated = annotated_scans(made / "prepared", made / "segmenter")
    return annotated, dice_of(scores), float(record["seconds"])


def annotated_scans(prepared: Path, segmenter: Path) -> int:
    """Scans that a network learnt from."""
    subjects = read_json(segmenter / "segmenter.json")["labelled_subjects"]
    return sum(case.label is not None and case.subject in subjects for case in PreparedStore(prepared).cases)


def dice_of(scores: Path) -> float:
    """Mean Dice over patients and structures."""
    return float(read_json(scores / "summary.json")["arms"]["model"]["mean"]["dice"]["mean"])


def shell(*words: str) -> None:
    """Run a command of fewlabel and print it with its output, as it stands at the end."""
    print(f"\n$ fewlabel {shlex.join(words)}", flush=True)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "fewlabel", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    for line in done.stdout.splitlines():
        if line.strip() and not _BAR.match(line):
            print(line.rstrip())
    print(f"# {time.monotonic() - started:.0f} s", flush=True)
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
