"""Rows of results: what was tried of a target, when, by which version, on what, and what became of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from fuzz.trees import tree_digest
from fuzz.workers import Tally

#: Failures that a row names in full.
_NAMED = 5


def row_of(tally: Tally) -> dict[str, Any]:
    """The row of a run."""
    from fewlabel.core.provenance import git_revision, machine_facts
    from fuzz.targets import TARGETS

    machine = machine_facts()
    return {
        "target": tally.target,
        "kind": TARGETS[tally.target].kind,
        "base": base_of(tally.target),
        "seed": tally.seed,
        "first": tally.first,
        "stop": tally.stop,
        "tried": tally.tried,
        "held": tally.tried - tally.failed,
        "failed": tally.failed,
        "verdicts": dict(sorted(tally.verdicts.items())),
        "failures": [
            {"input": index, "verdict": each.verdict, "why": each.why} for index, each in tally.failures[:_NAMED]
        ],
        "seconds": round(tally.seconds, 1),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": git_revision(),
        "hardware": {key: machine.get(key) for key in ("processor", "cores")},
    }


@cache
def base_of(target: str) -> str:
    """What the sound input of a target is, in short: inputs of one seed and number are equal where this is equal."""
    from fuzz.targets import TARGETS

    return tree_digest(TARGETS[target].base())


def append(path: Path, tally: Tally) -> None:
    """Add the row of a run to a file."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row_of(tally)) + "\n")


def tried_until(path: Path | None, target: str, seed: int) -> int:
    """The number after the last input of a target and seed, made of today's sound input, that a file has a row for."""
    if path is None or not path.is_file():
        return 0
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    now = (target, seed, base_of(target))
    return max((row["stop"] for row in rows if (row["target"], row["seed"], row.get("base")) == now), default=0)
