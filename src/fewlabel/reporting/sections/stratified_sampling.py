"""What drawing pixels in strata does to the contrastive gradient, where a regime measured it (ARCO and its kin)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewlabel.reporting.blocks import Picture, Text
from fewlabel.reporting.figures.training import Curve, curve, lines_figure

#: Figure of the record → name in the report.
SAMPLINGS = {
    "variance/ns": "naive (NS)",
    "variance/sg": "stratified (SG)",
    "variance/sag": "antithetic (SAG)",
}


def variance_pictures(rows: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Variance under each sampling over training, and as a share of the naive one; none where it was not measured.

    Args:
        rows: Rows of a segmenter's record.
    """
    series = {name: curve(rows, key) for key, name in SAMPLINGS.items()}
    shares = variance_shares(rows)
    if all(line.empty for line in series.values()):
        return []
    pictures = [
        lines_figure(
            series,
            title="Variance of the contrastive gradient",
            label="variance / squared length",
            caption="Over independent draws of pixels at the same step, divided by the squared length of the gradient "
            "over all pixels; in the last layer of the representation head. All three are measured, whichever one is "
            "used for training.",
        )
    ]
    if shares:
        pictures.append(
            lines_figure(
                shares,
                title="Variance relative to naive draws",
                label="share of the naive variance",
                caption="Below 1, the gradient from the same number of pixels is steadier. Antithetic pairs help only "
                "where opposite pixels of a cell disagree; otherwise they can be up to twice as bad as strata alone.",
            )
        )
    return pictures


def variance_note(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    """The mean shares in a sentence; nothing where they were not measured."""
    shares = variance_shares(rows)
    if not shares:
        return []
    shown = " and ".join(f"{float(line.values.mean()):.2f} with {name}" for name, line in shares.items())
    steps = len(next(iter(shares.values())).steps)
    note = f"Relative to naive draws, the variance of the contrastive gradient is {shown} (mean of {steps})."
    return [Text(note, "note")]


def variance_shares(rows: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """Variance over the naive one by sampling, over the rows that hold both and a naive one above 0."""
    naive, *others = SAMPLINGS
    ratios = [
        {"step": row["step"], **{key: row[key] / row[naive] for key in others if isinstance(row.get(key), float)}}
        for row in rows
        if isinstance(row.get(naive), float) and row[naive] > 0
    ]
    shares = {SAMPLINGS[key]: curve(ratios, key) for key in others}
    return {name: line for name, line in shares.items() if not line.empty}
