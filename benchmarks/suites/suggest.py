"""What the scans that ``suggest`` picks are worth beside others at random, from one annotated patient on.

A start is a first patient, the same for all rules and another one in each start while there are patients; then the rule
has the next one annotated, the next two and the next four. At 1, 2, 4 and 8 patients a network is trained from scratch
and scored on patients who take no part:

* ``random``: patients at random;
* ``coverage``: what ``suggest`` picks before there is a network, by small pictures of the scans;
* ``disagreement``: what it picks by the last network, which has to be trained first: of the scans that it is least sure
  of, those that cover all scans best.

Where a rule asks for scans, their patients are annotated with all their scans.
"""

from __future__ import annotations

import csv
import json
import shutil
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common import facts
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import append_line, read_json, write_json
from fewlabel.core.progress import say
from fewlabel.data.store import PreparedStore
from fewlabel.engine.embedding import pixel_embedding
from fewlabel.scoring.scans_worth_annotating import pick_to_cover, scan_distances
from fewlabel.scoring.statistics import t_interval
from fewlabel.stages import evaluate, finetune, prepare, suggest

RULES = ("random", "coverage", "disagreement")
SIZES = (1, 2, 4, 8)
STARTS = 5
#: How first patients are drawn: 1, each by itself, so that two starts may share theirs (rows without ``draw``); 2, in
#: turn from one order. Rows of one draw are never counted with those of another.
DRAW = 2
#: Settings of the training, the same in all cells.
TRAINING = {"regime": "supervised", "network": {"width": 8}, "optimiser": {"lr": 2e-3}, "batch": 10, "control": False}
#: All train as long as each other: leaving patients out to choose a length costs as many trainings.
TRAINING |= {"validation": "none", "expect": "never"}


@dataclass(frozen=True)
class Ground:
    """A data set.

    Attributes:
        prepare: Settings.
        pool: Patients who may be annotated.
        test: Patients who are scored.
        steps: Of a training.
    """

    prepare: Mapping[str, Any]
    pool: int
    test: int
    steps: int


GROUNDS = {
    "acdc": Ground({"reader": "acdc", "spacing": [2.0, 2.0], "size": [96, 96]}, 40, 20, 400),
    "hippocampus": Ground({"reader": "msd", "spacing": [1.0, 1.0], "size": [64, 48]}, 60, 30, 200),
}


def run(data: Path, work: Path, results: Path, arms: list[str]) -> None:
    """Train what has no row yet, start by start, and append rows to ``suggest.jsonl``.

    Args:
        data: The data set, whose folder is named after it.
        work: Where stores and trainings go.
        results: Folder of the rows.
        arms: Rules; all by default.
    """
    name = data.resolve().name
    ground, table = GROUNDS[name], results / "suggest.jsonl"
    work = work / f"suggest-{name}"
    store = _store(ground, data, work)
    done = {
        (row["start"], row["arm"], row["labelled"])
        for row in rows_of(table)
        if (row["data"], draw_of(row)) == (name, DRAW)
    }
    for start in range(STARTS):
        for rule in arms or RULES:
            for subjects in _rising(store, rule, start, ground, work):
                cell = (start, rule, len(subjects))
                if cell in done:
                    continue
                began, folder = time.monotonic(), _trained(store, subjects, ground, work)
                scores = folder / "scores"
                if not (scores / "summary.json").is_file():
                    values = {"data": store.folder, "segmenter": folder / "segmenter", "out": scores}
                    evaluate.run(evaluate.SETTINGS.parse(values))
                dice = read_json(scores / "summary.json")["arms"]["model"]["mean"]["dice"]["mean"]
                row = {"data": name, "draw": DRAW, "arm": rule, "start": start, "labelled": len(subjects)}
                row |= {
                    "dice": round(dice, 5),
                    "subjects": subjects,
                    "steps": ground.steps,
                    "seconds": round(time.monotonic() - began, 1),
                }
                append_line(table, json.dumps({**row, **facts()}))
                say(f"{name} {rule} start {start} M={len(subjects)}: Dice {dice:.3f}")


def rows_of(table: Path) -> list[dict[str, Any]]:
    """All rows; none without a table."""
    return [json.loads(line) for line in table.read_text().splitlines()] if table.is_file() else []


def draw_of(row: Mapping[str, Any]) -> int:
    """How the first patients of a row were drawn, see ``DRAW``."""
    return int(row.get("draw", 1))


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """The table of each draw of first patients by itself."""
    draws = sorted({draw_of(row) for row in rows})
    if draws == [DRAW] or not draws:
        return _table(rows)
    lines = []
    for draw in draws:
        how = "each start another one" if draw == DRAW else "each start by itself, so that two may share theirs"
        lines += [*([""] if lines else []), f"First patients of draw {draw} ({how}):", ""]
        lines += _table([row for row in rows if draw_of(row) == draw])
    return lines


def _table(rows: list[dict[str, Any]]) -> list[str]:
    """A table of mean Dice and of the gain over a random choice with its 95 % t-interval, and a verdict."""
    lines = [
        "| data | patients | rule | starts | Dice | gain over random, 95 % interval |",
        "|---|---:|---|---:|---:|---|",
    ]
    dice = {(row["data"], row["labelled"], row["arm"], row["start"]): row["dice"] for row in rows}
    better = []
    for data in sorted({row["data"] for row in rows}):
        for size in SIZES:
            for rule in RULES:
                own = {key[3]: value for key, value in dice.items() if key[:3] == (data, size, rule)}
                base = {key[3]: value for key, value in dice.items() if key[:3] == (data, size, "random")}
                both = sorted(own.keys() & base.keys())
                if not own:
                    continue
                worth = ""
                if rule != "random" and size > 1 and len(both) > 1:
                    gain = t_interval([own[start] - base[start] for start in both])
                    worth = f"{gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
                    better += [f"{rule} on {data} with {size}"] if gain.low is not None and gain.low > 0 else []
                mean = f"{np.mean(list(own.values())):.3f}"
                lines.append(f"| {data} | {size} | `{rule}` | {len(own)} | {mean} | {worth} |")
    lines += ["", f"Better than random: {', '.join(better)}." if better else "No rule is better than random."]
    return lines


def _store(ground: Ground, data: Path, work: Path) -> PreparedStore:
    """The data set: a random part of its patients to annotate, and another to score."""
    folder = work / "prepared"
    if Artifact.find(folder, "prepared") is None:
        from fewlabel.readers.base import choose_reader, collected

        choice = choose_reader(data, ground.prepare["reader"])
        catalog = collected(choice.reader, choice.place)
        twins = {name for group in catalog.known_equal for name in group}
        patients = [name for name in catalog.labelled_subjects if name not in twins]
        np.random.default_rng(0).shuffle(patients)
        test, pool = patients[: ground.test], patients[ground.test : ground.test + ground.pool]
        work.mkdir(parents=True, exist_ok=True)
        write_json(work / "split.json", {"parts": {"train": pool, "validation": [], "test": test}})
        values = {**ground.prepare, "data": data, "out": folder, "split": str(work / "split.json"), "workers": 1}
        prepare.run(prepare.SETTINGS.parse(values))
    return PreparedStore(folder)


def _rising(store: PreparedStore, rule: str, start: int, ground: Ground, work: Path) -> Iterator[list[str]]:
    """Patients at each size, each time those before and the next ones of the rule."""
    order = sorted(store.split["parts"]["train"])
    firsts = list(np.random.default_rng(DRAW).permutation(order))
    np.random.default_rng([start, DRAW]).shuffle(order)
    first = str(firsts[start % len(firsts)])
    order = [first, *(subject for subject in order if subject != first)]
    subjects = order[:1]
    yield subjects
    for size in SIZES[1:]:
        more = size - len(subjects)
        if rule == "random":
            subjects = order[:size]
        elif rule == "coverage":
            subjects = [*subjects, *_covering(store, subjects, more)]
        else:
            subjects = [*subjects, *_disagreed(store, subjects, more, ground, work)]
        yield subjects


def _covering(store: PreparedStore, known: list[str], count: int) -> list[str]:
    train = set(store.split["parts"]["train"])
    cases = [case for case in store.cases if case.subject in train]
    owners = [case.subject for case in cases]
    distances = scan_distances(pixel_embedding(store, cases))
    places = [place for place, owner in enumerate(owners) if owner in known]
    others = [place for place, owner in enumerate(owners) if owner not in known]
    return [owners[pick.index] for pick in pick_to_cover(distances, places, others, owners, count)]


def _disagreed(store: PreparedStore, known: list[str], count: int, ground: Ground, work: Path) -> list[str]:
    """What the stage itself suggests to the run of the last network."""
    run_folder = _trained(store, known, ground, work)
    if not (run_folder / "prepared").exists():
        (run_folder / "prepared").symlink_to(store.folder.resolve())
    table = run_folder / f"suggested-{count}.csv"
    if not table.is_file():
        values = {"run": run_folder, "out": table, "count": count, "rule": "disagreement"}
        suggest.run(suggest.SETTINGS.parse(values))
    with table.open(encoding="utf-8") as file:
        return [row["subject"] for row in csv.DictReader(file) if row["choice"] == "suggested"]


def _trained(store: PreparedStore, subjects: list[str], ground: Ground, work: Path) -> Path:
    """The folder of the network of these patients; rules that agree on them share it."""
    folder = work / "-".join(sorted(subjects))
    if Artifact.find(folder / "segmenter", "segmenter") is None:
        shutil.rmtree(folder, ignore_errors=True)
        values = {**TRAINING, "data": store.folder, "out": folder / "segmenter", "subjects": subjects}
        finetune.run(finetune.SETTINGS.parse({**values, "steps": ground.steps}))
    return folder
