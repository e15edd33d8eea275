"""The table of the probe in lines: Dice by both probes, the gain over random weights, how slices are embedded."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from fewlabel.scoring.statistics import t_interval
from suites.probe import keys_of, planned

REFERENCE = "random"
PROBES = ("neighbours", "linear")


def markdown(table: Sequence[Mapping[str, Any]], reference: str = REFERENCE) -> list[str]:
    """A row for each arm in the order in which they appear.

    Dice are means over draws, after those over seeds; gains are of the linear probe, on the same draws, with a 95 %
    t-interval over draws.

    Args:
        table: Rows of the suite.
        reference: The arm that gains are over.
    """
    gain_head = f"gain over {reference}, 95 % interval"
    lines = [
        f"| arm | steps | draws | neighbours | linear | {gain_head} | spread | rank | position |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    base = by_draw(table, reference, "linear")
    for arm in dict.fromkeys(row["arm"] for row in table):
        own = [row for row in table if row["arm"] == arm]
        dice = {name: by_draw(own, arm, name) for name in PROBES}
        gain = t_interval([value - base[draw] for draw, value in dice["linear"].items() if draw in base])
        worth = ""
        if arm != reference and gain.mean is not None:
            interval = "one draw" if gain.low is None else f"{gain.low:+.3f} to {gain.high:+.3f}"
            worth = f"{gain.mean:+.3f} ({interval})"
        cells = [
            f"`{arm}`",
            str(own[0]["steps"] or ""),
            str(len(dice["linear"])),
            *(f"{statistics.mean(dice[name].values()):.3f}" for name in PROBES),
            worth,
            *embedded(own),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def by_draw(table: Iterable[Mapping[str, Any]], arm: str, probe: str) -> dict[int, float]:
    """Draw → Dice of an arm, the mean over its seeds."""
    values: dict[int, list[float]] = {}
    for row in table:
        if row["arm"] == arm:
            values.setdefault(row["draw"], []).append(row[probe]["dice"])
    return {draw: statistics.mean(found) for draw, found in values.items()}


def embedded(own: Sequence[Mapping[str, Any]]) -> list[str]:
    """Spread, effective rank and purity of positions (over chance), means over encoders; empty for other controls."""
    if "spread" not in own[0]:
        return ["", "", ""]
    purity = statistics.mean(row["purity"]["position"]["purity"] for row in own)
    chance = statistics.mean(row["purity"]["position"]["chance"] for row in own)
    spread, rank = (statistics.mean(row[key] for row in own) for key in ("spread", "effective_rank"))
    return [f"{spread:.3f}", f"{rank:.1f}", f"{purity:.2f} ({chance:.2f})"]


def unfinished(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Arms of which rows are missing."""
    there = keys_of(table)
    missing: dict[str, int] = {}
    for key in planned():
        if key not in there:
            missing[key[0]] = missing.get(key[0], 0) + 1
    return [f"not run: {arm}, {count} rows" for arm, count in missing.items()]
