"""How good the network is, structure by structure, and where along the slices it fails."""

from __future__ import annotations

import math

import pandas as pd

from fewlabel.reporting.blocks import Block, Section, Table, Text
from fewlabel.reporting.formatting import number
from fewlabel.reporting.unseen_scores import UnseenScores
from fewlabel.scoring.statistics import USELESS
from fewlabel.scoring.thirds import COLUMNS as THIRDS
from fewlabel.scoring.thirds import THIRDS_RULE

TITLE = "How good it is, and where it fails"
NOTHING = (
    "Nothing was scored: no patient with an annotation was kept from training. Judge the predictions on unlabelled "
    "scans below by eye, or annotate a second patient."
)
_PLACES = ("first third", "middle third", "last third")
#: Below this a structure fails; a third of the slices counts as weak if it lies so far below the best third.
FAILS, APART = 0.5, 0.1
READING = (
    "Dice is the overlap with the annotation, from 0 (none) to 1 (perfect). HD95 is how far off the worst of the "
    "outline is. Missed: scans that have the structure and whose prediction does not."
)
OF_THIRDS = (
    "Thirds are in the order of the slices: in a short-axis stack of the heart these are base, middle and apex, or the "
    "other way round."
)


def structure_section(scores: UnseenScores | None) -> Section:
    """A sentence for each structure that fails, and a table of all of them."""
    if scores is None:
        return Section("structures", TITLE, "", [Text(NOTHING, "missing")])
    table, far = scores.table, scores.units.distance
    rows = [_row(str(name), group, scores) for name, group in table.groupby("class_name", sort=False)]
    rows.append(_row("mean", _means(table), scores))
    head = ["Structure", "Dice", "lowest scan"]
    head += [f"HD95 {far}"] if scores.has("hd95_mm") else []
    head += [*_PLACES] if scores.has(*THIRDS) else []
    head += ["missed"]
    blocks: list[Block] = [Text(line) for line in failures(scores)]
    blocks.append(Table(head, rows, "", frozenset(range(1, len(head))), frozenset({len(rows) - 1})))
    blocks.append(Text(f"{READING} {OF_THIRDS} {THIRDS_RULE}" if scores.has(*THIRDS) else READING, "note"))
    return Section("structures", TITLE, f"Scored on {scores.who}.", blocks)


def failures(scores: UnseenScores) -> list[str]:
    """A line for each structure with a low Dice, or a third of the slices far below another; one if all is well.

    It begins with what is wrong, as names of structures are words of any language and number ("lungs is not found").
    """
    lines = []
    for name, rows in scores.table.groupby("class_name", sort=False):
        dice = scores.mean(rows, "dice")
        thirds = {place: scores.mean(rows, column) for place, column in zip(_PLACES, THIRDS, strict=True)}
        known = {place: value for place, value in thirds.items() if not math.isnan(value)}
        weak = min(known, key=known.__getitem__) if known else ""
        uneven = weak and max(known.values()) - known[weak] >= APART
        wrong = "Not found" if dice < USELESS else "Found poorly" if dice < FAILS else "Uneven" if uneven else ""
        where = f", weakest in the {weak} of the slices (Dice {number(known[weak], 2)})" if uneven else ""
        if wrong:
            lines.append(f"{wrong}: {name}, mean Dice {number(dice, 2)}{where}.")
    return lines or ["No structure fails, and none is much weaker in one third of the slices than in another."]


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """A row per scan: the mean over structures, and how many were missed."""
    grouped = table.groupby(["subject", "case"], sort=False)
    return grouped[["dice", "hd95_mm", *THIRDS]].mean().join(grouped["missed"].sum()).reset_index()


def _row(name: str, rows: pd.DataFrame, scores: UnseenScores) -> list[str]:
    cells = [name, number(scores.mean(rows, "dice")), number(float(rows["dice"].min()))]
    cells += [number(scores.mean(rows, "hd95_mm"), 1)] if scores.has("hd95_mm") else []
    cells += [number(scores.mean(rows, column)) for column in THIRDS] if scores.has(*THIRDS) else []
    return [*cells, str(int(rows["missed"].sum()))]
