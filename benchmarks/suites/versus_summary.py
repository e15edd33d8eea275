"""The table of :mod:`suites.versus` in lines, with the hardware and the dates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from suites.versus import cells, hours, key_of
from suites.versus_arms import ARMS

HEAD = (
    "arm", "minutes", "M", "Dice", "HD95 in mm", "missed", "steps", "images/s",
    "loss of tenths: first → last but one → last", "peak GiB", "s a scan",
)  # fmt: skip


def markdown(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row for each cell, the best Dice of each time and M first."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    for row in sorted(table, key=lambda row: (row["minutes"] or 1e9, row["labelled"], -row["dice"])):
        cells = [
            f"`{row['arm']}`" + (" (rehearsal)" if row["rehearsal"] else ""),
            f"{row['minutes']:g}" if row["minutes"] else f"{row['seconds'] / 60:.0f}",
            str(row["labelled"]),
            f"{row['dice']:.3f}",
            f"{row['hd95_mm']:.1f}",
            str(row["missed"]),
            str(row["steps"]),
            f"{row['images_per_second']:.1f}",
            " → ".join(f"{row[key]:.2f}" for key in ("loss_first", "loss_before", "loss_last")),
            f"{row['peak_bytes'] / 2**30:.1f}",
            f"{row['predict_seconds_of_a_scan']:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    if not table:
        return ["No cell has been run."]
    machines = sorted({f"{row['machine']['processor']}, {row['machine']['cores']} cores" for row in table})
    dates = sorted({row["date"] for row in table})
    return [*lines, "", f"{'; '.join(machines)}; {dates[0]} to {dates[-1]}; {table[0]['test_scans']} test scans."]


def unfinished(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Cells that were not run, and what they will take."""
    there = {key_of(dict(row)) for row in table}
    missing = [cell for cell in cells(ARMS) if cell.key not in there]
    names = [
        f"not run: {cell.arm}, M={cell.labelled}, {f'{cell.minutes:g} minutes' if cell.minutes else 'its steps'}"
        for cell in missing
    ]
    return [*names, f"about {hours(missing):.1f} hours of two cores"] if missing else []
