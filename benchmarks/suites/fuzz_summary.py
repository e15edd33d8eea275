"""The table of mutated inputs: what was tried of each reader, kind of file and artifact, what held and what failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

#: Kind of target → what a document calls one and several.
KINDS = {
    "reader": ("reader", "readers"),
    "file": ("kind of file", "kinds of file"),
    "artifact": ("kind of artifact", "kinds of artifact"),
    "command": ("whole command", "whole commands"),
}
_COUNTED = ("tried", "held", "failed")


def counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """Target → tried, held and failed, in the order in which targets appear.

    Args:
        rows: As ``python tests/fuzz --rows`` appends them.
    """
    found: dict[str, Counter[str]] = {}
    for row in rows:
        found.setdefault(row["target"], Counter()).update({key: row[key] for key in _COUNTED})
    return found


def summarise(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each target and one for all, with the dates, versions and machines of the rows."""
    found = counts(rows)
    lines = ["target tried held failed"]
    lines += [" ".join([target, *(str(own[key]) for key in _COUNTED)]) for target, own in found.items()]
    total = sum(found.values(), Counter[str]())
    lines.append(" ".join(["all", *(str(total[key]) for key in _COUNTED)]))
    dates = sorted(row["date"][:10] for row in rows)
    lines.append(f"from {dates[0]} to {dates[-1]}, revisions {', '.join(_revisions(rows))}")
    for row in rows:
        lines.extend(
            f"failed: {row['target']} {row['seed']} {failure['input']}: {failure['verdict']} {failure['why']}"
            for failure in row["failures"]
        )
    return lines


def markdown(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for each target, then sums by kind and a sentence on when and by what they were tried."""
    found, kinds = counts(rows), {row["target"]: row["kind"] for row in rows}
    lines = ["| what | inputs tried | held | failed |", "|---|---|---|---|"]
    for kind, (one, several) in KINDS.items():
        own = {target: values for target, values in found.items() if kinds[target] == kind}
        if not own:
            continue
        total = sum(own.values(), Counter[str]())
        lines.append(f"| **{len(own)} {one if len(own) == 1 else several}** | {_cells(total)} |")
        lines += [f"| `{target}` | {_cells(values)} |" for target, values in own.items()]
    lines.append(f"| **all** | {_cells(sum(found.values(), Counter[str]()))} |")
    dates = sorted({row["date"][:10] for row in rows})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    machines = sorted({str(row["hardware"]["processor"]) for row in rows})
    versions = ", ".join(f"`{revision}`" for revision in _revisions(rows))
    return [*lines, "", f"Tried {when} by {versions} on {', '.join(machines)}."]


def _cells(values: Counter[str]) -> str:
    return " | ".join(f"{values[key]:,}".replace(",", " ") for key in _COUNTED)


def _revisions(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(str(row["revision"])[:10] for row in rows))
