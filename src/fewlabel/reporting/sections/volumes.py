"""Volumes of structures against the annotation, and objects that are none."""

from __future__ import annotations

import numpy as np

from fewlabel.reporting.blocks import Block, Pictures, Section, Table, Text
from fewlabel.reporting.figures.volumes import FEWEST, agreement_figure
from fewlabel.reporting.formatting import count, number
from fewlabel.reporting.unseen_scores import UnseenScores

MOST_STRUCTURES, MOST_SCANS = 12, 10
READING = (
    "Each point is a scan: how much larger (above 0) or smaller the predicted volume is, over the mean of both "
    "(Bland & Altman 1986). The solid line is the mean difference; 95 % of scans are expected between the dashed ones."
)


def volume_section(scores: UnseenScores) -> Section | None:
    """A Bland-Altman plot of each structure; None where volumes are unknown."""
    table, unit = scores.table.dropna(subset=["reference_ml", "predicted_ml"]), scores.units.volume
    if table.empty:
        return None
    pictures = [
        agreement_figure(
            str(name),
            rows["reference_ml"].to_numpy(np.float64),
            rows["predicted_ml"].to_numpy(np.float64),
            unit,
            rows["case"].astype(str).tolist(),
        )
        for name, rows in list(table.groupby("class_name", sort=False))[:MOST_STRUCTURES]
    ]
    blocks: list[Block] = [Pictures(pictures), Text(READING, "note")]
    scans = table["case"].nunique()
    if scans < FEWEST:
        few = f"{count(scans, 'scan')} is too few for limits" if scans == 1 else f"{scans} scans are too few for limits"
        blocks.append(Text(f"{few} of agreement.", "note"))
    return Section("volumes", "Volumes against the annotation", "", blocks)


def stray_section(scores: UnseenScores) -> Section | None:
    """Scans with pieces of a prediction far from any annotation; None where that is not known."""
    if not scores.has("stray"):
        return None
    table, unit = scores.table, scores.units.volume
    by_scan = table.groupby("case", sort=False)[["stray", "stray_ml"]].sum(min_count=1)
    astray = by_scan[by_scan["stray"] > 0].sort_values(["stray_ml", "stray"], ascending=False)
    title = "Stray objects"
    if astray.empty:
        return Section("stray", title, "No prediction has a piece that lies apart from what is annotated.")
    objects, scans = int(astray["stray"].sum()), len(astray)
    lead = (
        f"{count(objects, 'piece')} of predictions, in {scans} of {count(len(by_scan), 'scan')}, share no voxel with "
        "what they are named after, such as a second heart on the aorta. A mean Dice hides them."
    )
    rows = [
        [str(case), str(int(row["stray"])), number(float(row["stray_ml"]), 1)]
        for case, row in astray.head(MOST_SCANS).iterrows()
    ]
    caption = f"The {MOST_SCANS} scans with the most" if scans > MOST_SCANS else ""
    return Section("stray", title, lead, [Table(["Scan", "objects", unit], rows, caption, frozenset({1, 2}))])
