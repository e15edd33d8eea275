"""The table of a ground suite in lines: ``arm split M draws mean std gain low high seconds``."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fewlabel.scoring.statistics import t_interval
from suites.ground import Cell

HEAD = "arm split M draws mean std gain low high seconds"
#: Split → the arm that gains are over; ``supervised`` elsewhere.
REFERENCES = dict.fromkeys(("chaitanya", "ssl4mis", "test"), "+post-processing")


def summarise(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each arm, split and number of labelled patients, in the order in which they appear.

    Gains are over the arm's own control (its name with ``-supervised``), else over the reference of the split, on the
    same draws, with a 95 % t-interval over draws; the seconds are the median of a run with its evaluation. M is
    ``all`` where every training patient is labelled.
    """
    groups: dict[tuple[str, int, str], dict[int, Mapping[str, Any]]] = {}
    for row in table:
        groups.setdefault((row["split"], row["labelled"], row["arm"]), {})[row["draw"]] = row
    lines = [HEAD]
    for (split, labelled, arm), rows in groups.items():
        own = (split, labelled, f"{arm}-supervised")
        base = groups.get(own) or groups.get((split, labelled, REFERENCES.get(split, "supervised")), {})
        dice = [row["dice"] for row in rows.values()]
        gain = t_interval([row["dice"] - base[draw]["dice"] for draw, row in rows.items() if draw in base])
        spread = statistics.stdev(dice) if len(dice) > 1 else None
        figures = [statistics.mean(dice), spread, gain.mean, gain.low, gain.high]
        cells = [arm, split, str(labelled or "all"), str(len(rows)), *map(_number, figures)]
        lines.append(" ".join([*cells, f"{statistics.median(row['seconds'] for row in rows.values()):.0f}"]))
    return lines


def _number(value: float | None) -> str:
    return "nan" if value is None else f"{value:.3f}"


def markdown(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """The same as a table for documents."""
    lines = [
        "| arm | split | M | runs | Dice | gain, 95 % interval | seconds of a run |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in summarise(table)[1:]:
        arm, split, labelled, draws, mean, std, gain, low, high, seconds = line.split()
        deviation = "" if std == "nan" else f" ± {std}"
        reference = arm == REFERENCES.get(split, "supervised")
        interval = "one run" if low == "nan" else f"{float(low):+.3f} to {float(high):+.3f}"
        worth = "" if reference or gain == "nan" else f"{float(gain):+.3f} ({interval})"
        lines.append(f"| `{arm}` | {split} | {labelled} | {draws} | {mean}{deviation} | {worth} | {seconds} |")
    return lines


def details(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Of each arm, means over its runs: by class, by phase (ED and ES), HD95, classes lost; as a table for documents.

    Without phases there is no column of them.
    """
    phased = any("dice_by_phase" in row for row in table)
    head = ["arm", "split", "M", "by class", *(["ED / ES"] if phased else []), "HD95 in mm", "lost"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    groups: dict[tuple[str, int, str], list[Mapping[str, Any]]] = {}
    for row in table:
        groups.setdefault((row["split"], row["labelled"], row["arm"]), []).append(row)
    for (split, labelled, arm), rows in groups.items():
        classes = " / ".join(
            f"{name} {statistics.mean(row['dice_by_class'][name] for row in rows):.3f}"
            for name in rows[0]["dice_by_class"]
        )
        phases = " / ".join(
            f"{statistics.mean(row['dice_by_phase'][name] for row in rows):.3f}"
            for name in sorted(rows[0].get("dice_by_phase", ()))
        )
        distance = statistics.mean(row["hd95_mm"] for row in rows)
        lost = sum(sum(row["lost"].values()) for row in rows)
        scans = sum(row["test_cases"] * len(row["lost"]) for row in rows)
        told = [classes, *([phases] if phased else []), f"{distance:.1f}", f"{lost} of {scans}"]
        cells = [f"`{arm}`", split, str(labelled or "all"), *told]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def unfinished(cells: Sequence[Cell]) -> list[str]:
    """What was not run, a line for each arm, split and number of labelled patients."""
    counts = Counter((cell.arm, cell.split, cell.labelled or "all") for cell in cells)
    return [f"not run: {arm} {split} {labelled}, {count} runs" for (arm, split, labelled), count in counts.items()]
