"""Maps of the embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fewlabel.reporting.blocks import Picture
from fewlabel.reporting.figure_style import SERIES, draw, legend_below, ordered_colours

MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
#: More classes than this are coloured but not named.
NAMED = 8


def embedding_figure(
    points: NDArray[np.float64],
    codes: NDArray[np.integer],
    names: Sequence[str],
    *,
    title: str,
    caption: str,
    ordered: bool,
    summary: str,
) -> Picture:
    """A point per slice, coloured by one meta label.

    Args:
        points: (n, 2) coordinates.
        codes: (n,) class of each slice, -1 where missing.
        names: Name of each class.
        title: Above the map.
        caption: Below the picture.
        ordered: Whether the classes follow each other; a light-to-dark scale then.
        summary: Figures for the alternative text.
    """
    classes = [int(code) for code in np.unique(codes[codes >= 0])]
    colours = ordered_colours(len(names)) if ordered else SERIES
    size = float(np.clip(2600 / max(len(points), 1), 5, 32))

    def paint(axes: Axes) -> None:
        missing = codes < 0
        if missing.any():
            _dots(axes, points[missing], size, "#b0b0b0", "x", "missing" if len(classes) <= NAMED else None)
        for code in classes:
            of_class = codes == code
            named = names[code] if len(classes) <= NAMED else None
            mark = MARKS[(code // NAMED if len(classes) > NAMED else code) % len(MARKS)]
            _dots(axes, points[of_class], size, colours[code % len(colours)], mark, named)
        axes.set(title=title, xticks=[], yticks=[])
        axes.margins(0.05)
        axes.grid(visible=False)
        for spine in axes.spines.values():
            spine.set_visible(True)
            spine.set_color("#d0d0d0")
        legend_below(axes)

    alt = f"Map of {len(points)} slice embeddings coloured by {title}, {len(classes)} classes. {summary}"
    return draw(paint, alt=alt, caption=caption, size=(4.5, 3.9))


def _dots(axes: Axes, points: NDArray[np.float64], size: float, colour: Any, mark: str, name: str | None) -> None:
    # Rasterised: a thousand vector marks would swell the page.
    axes.scatter(
        points[:, 0], points[:, 1], s=size, color=colour, marker=mark, linewidths=0.6, alpha=0.85, label=name,
        rasterized=True,
    )  # fmt: skip
