"""Volumes against the annotation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fewlabel.reporting.blocks import Picture
from fewlabel.reporting.figure_style import INK, MODEL, MUTED, draw

#: Scans below which limits of agreement say nothing.
FEWEST = 3


def limits_of_agreement(differences: NDArray[np.float64]) -> tuple[float, float, float]:
    """Mean difference and the limits that 95 % of differences lie within, if they are normal: mean ± 1.96 deviations.

    Bland & Altman, Lancet 1986.

    Args:
        differences: Of at least two scans.
    """
    mean, spread = float(differences.mean()), float(differences.std(ddof=1))
    return mean, mean - 1.96 * spread, mean + 1.96 * spread


def agreement_figure(
    name: str, annotated: NDArray[np.float64], predicted: NDArray[np.float64], unit: str, labels: Sequence[str]
) -> Picture:
    """A Bland-Altman plot of one structure: the difference of each scan over the mean of both volumes.

    Args:
        name: Of the structure.
        annotated: (scans,) volumes.
        predicted: (scans,) volumes of the same scans.
        unit: Of volumes.
        labels: Names of the scans, for the text.
    """
    means, differences = (annotated + predicted) / 2, predicted - annotated
    enough = len(differences) >= FEWEST
    mean, low, high = limits_of_agreement(differences) if enough else (float(differences.mean()), np.nan, np.nan)

    def paint(axes: Axes) -> None:
        axes.axhline(0, color=INK, linewidth=1)
        axes.axhline(mean, color=MODEL, linewidth=1.6)
        for end in (low, high) if enough else ():
            axes.axhline(end, color=MUTED, linewidth=1.2, linestyle=(0, (5, 2)))
        axes.scatter(means, differences, s=34, color=MODEL, edgecolor="white", linewidth=0.7, zorder=3)
        axes.set_title(name)
        axes.set_xlabel(f"mean of both, {unit}")
        axes.set_ylabel(f"predicted minus annotated, {unit}")
        axes.margins(x=0.08, y=0.2)

    farthest = labels[int(np.abs(differences).argmax())]
    words = f"on average {mean:+.1f} {unit}"
    if enough:
        words += f" (limits of agreement {low:+.1f} to {high:+.1f} {unit}, dashed)"
    return draw(
        paint,
        alt=f"Predicted minus annotated volume of {name}: {words}; farthest off {farthest}.",
        caption=f"{words[0].upper()}{words[1:]}. Farthest off: {farthest}.".replace("-", "\N{MINUS SIGN}"),
    )
