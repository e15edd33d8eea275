"""A fast probe of frozen encoders on ACDC's split ``develop``: pixels of one labelled patient tell those of 20 others.

Each arm's encoder is pre-trained on the 43 patients of the split that are not scored, at the size of the recipe
``acdc-lite``, and frozen. Its batch normalisation gets the statistics of whole training slices, those of all encoders
alike. Features of cells of 4x4 pixels are standardised by training slices; a bank of the labelled patient's cells, in
eight turns, tells the classes of all cells of the scored patients, by neighbours and by a linear classifier (see
``fewlabel.scoring.probe``). Controls learnt nothing: random weights, intensities about a pixel, its place.

Rows go to ``results/probe.jsonl``, one for each arm, seed and draw; stopped at any time, the suite goes on where it
was. ``python benchmarks/summary.py probe`` prints the table and what was not run.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import fewlabel
from common import facts, settings_hash
from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.data.store import PreparedStore
from fewlabel.engine.record import read_record
from suites.pretraining_facts import pretraining_facts
from suites.probe_arms import ARMS, Arm
from suites.probe_row import Probed, described, probed

SUITE = "probe"
RECIPE = "acdc-lite"
SPLIT = "develop"

Key = tuple[str, int, int]


def run(data: Path, work: Path, results: Path, chosen: Sequence[str]) -> None:
    """Run what is missing and append a row for each arm, seed and draw.

    Args:
        data: Folder of ACDC scans.
        work: Where prepared data and encoders are kept.
        results: Folder of the table.
        chosen: Arms, as :func:`slug` writes them; all if empty.
    """
    path, folder = results / f"{SUITE}.jsonl", work / SUITE
    store = PreparedStore(fewlabel.prepare(recipe=RECIPE, split=SPLIT, data=data, out=folder / "prepared"))
    for name in wanted(chosen):
        arm = ARMS[name]
        for seed in arm.seeds:
            for draws in [(draw,) for draw in arm.draws] if arm.labels else [arm.draws]:
                there = made(path)
                missing = [draw for draw in draws if (name, seed, draw) not in there]
                if missing:
                    append(path, rows_of(store, folder, name, seed, missing))


def slug(name: str) -> str:
    """An arm's name for the command line and for files: ``gcl-pixel-weight-0.3``."""
    return name.replace(",", "").replace(" ", "-")


def wanted(chosen: Sequence[str]) -> list[str]:
    """Names of the arms that are asked for, in the order of the table.

    Raises:
        SystemExit: If a word names none.
    """
    names = {slug(name): name for name in ARMS}
    strange = [word for word in chosen if word not in names]
    if strange:
        raise SystemExit(f"probe has no arm {', '.join(strange)}. Known: {', '.join(names)}")
    return [name for word, name in names.items() if not chosen or word in chosen]


def rows_of(store: PreparedStore, work: Path, name: str, seed: int, draws: Sequence[int]) -> list[dict[str, Any]]:
    """Train an encoder if there is none yet, probe it, and describe both: a row for each draw."""
    arm = ARMS[name]
    settings = settings_of(arm, seed, draws[0])
    encoder = trained(store, work, arm.of or name, arm, seed, draws[0]) if arm.kind == "encoder" else None
    began = time.monotonic()
    found = probed(store, described(arm, store, encoder, seed), draws)
    seconds = round((time.monotonic() - began) / len(draws), 1)
    known = {} if encoder is None else training_facts(encoder)
    return [
        {
            "suite": SUITE,
            "arm": name,
            "method": arm.method.get("name", arm.kind),
            "steps": arm.steps if encoder is not None else 0,
            "seed": seed,
            "labelled": 1,
            "draw": draw,
            **figures(found, draw),
            **known,
            "probe_seconds": seconds,
            "settings": settings,
            "settings_hash": settings_hash(settings),
            **facts(),
        }
        for draw in draws
    ]


def settings_of(arm: Arm, seed: int, draw: int) -> dict[str, Any]:
    """Settings of the pre-training over the recipe; none for a control."""
    if arm.kind != "encoder":
        return {}
    labels = {"labelled": 1, "draw": draw} if arm.labels else {}
    # However collapsed an encoder is, it is probed.
    fixed = {"steps": arm.steps, "seed": seed, "collapse_patience": 0}
    return {"method": dict(arm.method), **fixed, **labels, **arm.pretrain}


def trained(store: PreparedStore, work: Path, name: str, arm: Arm, seed: int, draw: int) -> Path:
    """The folder of an arm's encoder, trained unless it lies there."""
    own = f"-d{draw}" if arm.labels else ""
    folder = work / f"{slug(name)}-s{seed}{own}"
    if not (folder / MANIFEST).is_file():
        settings = settings_of(arm, seed, draw)
        fewlabel.pretrain(recipe=RECIPE, data=store.folder, out=folder, resume=True, **settings)
    return folder


def training_facts(encoder: Path) -> dict[str, Any]:
    """What the pre-training took and looked like."""
    record = read_record(encoder / "metrics.jsonl")
    manifest = Artifact.open(encoder, check_parents=False).manifest
    return {
        "pretrain_seconds": manifest.wall_seconds,
        "pretrain_step_seconds": round(statistics.median(row["seconds"] for row in record), 4),
        "pretrain_machine": manifest.machine,
        "pretraining": pretraining_facts(record),
    }


def figures(found: Probed, draw: int) -> dict[str, Any]:
    """Dice of both probes of a draw, and how slices are embedded."""
    return {**found.dice[draw], **found.slices}


def rows(path: Path) -> list[dict[str, Any]]:
    """Rows of the table so far."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def keys_of(table: Iterable[Mapping[str, Any]]) -> set[Key]:
    """What tells these rows apart: arm, seed and draw."""
    return {(row["arm"], row["seed"], row["draw"]) for row in table}


def made(path: Path) -> set[Key]:
    """Keys of the rows so far."""
    return keys_of(rows(path))


def planned() -> list[Key]:
    """Keys of all rows of the table."""
    return [(name, seed, draw) for name, arm in ARMS.items() for seed in arm.seeds for draw in arm.draws]


def append(path: Path, added: Sequence[Mapping[str, Any]]) -> None:
    """Add rows to the results file and print them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in added)
    for row in added:
        words = f"{row['arm']} seed {row['seed']} draw {row['draw']}"
        print(f"{words}: neighbours {row['neighbours']['dice']:.3f} linear {row['linear']['dice']:.3f}", flush=True)
