"""What a pre-training looked like: losses, their collapse value, spread and rank of the embeddings, stage by stage."""

from __future__ import annotations

import statistics
from typing import Any


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
