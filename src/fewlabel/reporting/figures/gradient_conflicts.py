"""Where in the encoder the meta labels pull against each other."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from fewlabel.reporting.blocks import Picture
from fewlabel.reporting.figure_style import INK, MUTED, canvas, embed


def conflict_map(shares: NDArray[np.float64], tensors: Sequence[str], pairs: Sequence[str], *, caption: str) -> Picture:
    """How often gradients of two meta labels point apart, by parameter tensor.

    Args:
        shares: (tensors, pairs) share of steps with a negative cosine, in [0, 1]; NaN where never compared.
        tensors: Names of the rows, input side first.
        pairs: Names of the columns.
        caption: Below the picture.
    """
    rows, columns = shares.shape
    height = 1.55 + 0.235 * rows
    with canvas((4.5, height)) as figure:
        axes = figure.add_subplot()
        ramp = mpl.colormaps["cividis"].with_extremes(bad="#f0f0f0")
        image = axes.imshow(np.ma.masked_invalid(shares), cmap=ramp, vmin=0, vmax=1, aspect="auto")
        axes.grid(visible=False)
        axes.set_xticks(range(columns), [pair.replace(" · ", "\n") for pair in pairs], fontsize=9)
        axes.set_yticks(range(rows), list(tensors), fontsize=8.5)
        axes.xaxis.tick_top()
        figure.suptitle("Where the gradients conflict", x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        for row in range(rows):
            for column in range(columns):
                value = shares[row, column]
                text = "–" if np.isnan(value) else f"{100 * value:.0f}"
                colour = MUTED if np.isnan(value) else "white" if value < 0.5 else INK
                axes.text(column, row, text, ha="center", va="center", fontsize=8, color=colour)
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, aspect=30, pad=0.02)
        bar.set_label("share of steps in conflict", fontsize=9)
        bar.ax.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1.0, decimals=0))
        bar.outline.set_visible(False)
        return embed(figure, alt=_told(shares, tensors, pairs), caption=caption)


def _told(shares: NDArray[np.float64], tensors: Sequence[str], pairs: Sequence[str]) -> str:
    if not np.isfinite(shares).any():
        return "Conflict by tensor: nothing was compared."
    row, column = np.unravel_index(int(np.nanargmax(shares)), shares.shape)
    means = "; ".join(
        f"{pair} {100 * float(np.nanmean(shares[:, index])):.0f} %"
        for index, pair in enumerate(pairs)
        if np.isfinite(shares[:, index]).any()
    )
    return (
        f"Share of steps in which two meta labels' gradients conflict, by parameter tensor. "
        f"Mean over tensors: {means}. "
        f"Most in {tensors[int(row)]} for {pairs[int(column)]}, {100 * float(shares[row, column]):.0f} %."
    )
