"""Every pre-training method on ACDC under the protocol of ``acdc-lite``, beside scratch.

One pre-training per method (one per draw for methods that learn from labels), then one fine-tuning per number of
labelled patients and draw. Rows go to ``results/acdc-methods.jsonl``, each with what pre-training looked like: losses,
their collapse value, spread and rank of the embeddings. Rows that ``acdc-lite`` has already are taken from there, and
encoders that lie in the work folder are used again. Stopped at any time, it goes on where it was.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import fewlabel
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.plugin_discovery import load_plugin, plugin_names
from fewlabel.engine.record import read_record
from suites.acdc_lite import RECIPE, append, done, found, score

SUITE = "acdc-methods"
#: Labelled patients → the split's draws of them.
BUDGETS = {1: (0, 1, 2), 2: (0, 1, 2)}


def run(data: Path, work: Path, results: Path, chosen: list[str]) -> None:
    """Run what is missing and append a row per fine-tuning."""
    path = results / f"{SUITE}.jsonl"
    prepared = fewlabel.prepare(recipe=RECIPE, data=data, out=work / "prepared")
    for arm in chosen or ["scratch", *plugin_names("fewlabel.methods")]:
        for labelled, draws in BUDGETS.items():
            for draw in draws:
                if done(path, arm, labelled, draw):
                    continue
                encoder = None if arm == "scratch" else _encoder(work, prepared, arm, labelled, draw)
                row = found(results / f"{RECIPE}.jsonl", arm, labelled, draw)
                if row is None:
                    row = score(SUITE, work, prepared, encoder, arm, labelled, draw)
                if encoder is not None:
                    row["pretraining"] = pretraining_facts(read_record(encoder / "metrics.jsonl"))
                append(path, row)


def _encoder(work: Path, prepared: Path, arm: str, labelled: int, draw: int) -> Path:
    """The method's encoder; one of this draw's own where labels take part."""
    own: dict[str, Any] = {}
    folder = work / f"encoder-{arm}"
    if load_plugin("fewlabel.methods", arm).uses_labels:
        own = {"labelled": labelled, "draw": draw}
        folder = work / f"encoder-{arm}-m{labelled}-d{draw}"
    if not (folder / MANIFEST).is_file():
        fewlabel.pretrain(recipe=RECIPE, data=prepared, out=folder, method={"name": arm}, resume=True, **own)
    return folder


def pretraining_facts(record: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What the record says of each stage of a pre-training: a stage is a run of steps with the same loss terms."""
    stages: list[list[dict[str, Any]]] = []
    for row in record:
        if not stages or _terms(stages[-1][-1]) != _terms(row):
            stages.append([])
        stages[-1].append(row)
    return [_stage_facts(rows) for rows in stages]


def _terms(row: dict[str, Any]) -> list[str]:
    return sorted(key for key in row if key.startswith("term/"))


def _stage_facts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """First and last loss, and the embeddings at the start, in the middle and at the end."""
    tail = max(len(rows) // 10, 1)
    shown = (rows[0], rows[len(rows) // 2], rows[-1])
    return {
        "terms": [key.removeprefix("term/") for key in _terms(rows[0])],
        "steps": [rows[0]["step"], rows[-1]["step"]],
        "loss_first": rows[0]["loss"],
        "loss_last": round(statistics.mean(row["loss"] for row in rows[-tail:]), 4),
        "collapsed_last": rows[-1].get("collapsed"),
        "lower_bound_last": rows[-1].get("lower_bound"),
        "spread": [row.get("spread") for row in shown],
        "effective_rank": [row.get("effective_rank") for row in shown],
        "embedding_std": [row.get("embedding_std") for row in shown],
    }
