"""Rounds of annotation: which masks came, and what each round was worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fewlabel.reporting.blocks import Section, Table, Text
from fewlabel.reporting.formatting import DASH, count, listed, number

TITLE = "Rounds of annotation"
READING = (
    "Before and after are of the same scans and masks, by networks that never met the labels of their patients. The "
    "first look is what the network reached on a scan before it learnt from the new mask of it. A round that is taken "
    "is used from then on, until a later one is taken or learn is told otherwise (use=NUMBER)."
)


def rounds_section(rounds: Sequence[Mapping[str, Any]]) -> Section | None:
    """A row per finished round; None without any.

    Args:
        rounds: Contents of ``round.json``, in order.
    """
    if not rounds:
        return None
    rows = [_row(record) for record in rounds]
    head = ["Round", "masks", "first look, Dice", "before", "after", "taken"]
    table = Table(head, rows, "", frozenset({2, 3, 4}), wrapped=frozenset({1}))
    return Section("rounds", TITLE, f"{count(len(rounds), 'round')} of learn.", [table, Text(READING, "note")])


def _row(record: Mapping[str, Any]) -> list[str]:
    scores, validation = record["scores"], record["scores"]["validation"]
    before, after = validation["before"], validation["after"]
    if before is None and scores["left_out"]["before"]:
        before, after = (fmean(scores["left_out"][when].values()) for when in ("before", "after"))
    unseen = scores["unseen"].values()
    masks = listed([f"{case} ({mask['kind']})" for case, mask in record["masks"].items()], 4)
    return [
        str(record["round"]),
        masks,
        number(fmean(unseen)) if unseen else DASH,
        number(before),
        number(after),
        "yes" if record["taken"] else "no, it was worse",
    ]
