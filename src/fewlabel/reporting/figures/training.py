"""Curves of a training run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from fewlabel.reporting.blocks import Picture
from fewlabel.reporting.figure_style import BLUE, MUTED, VERMILLION, draw, legend_below, series_look, smooth, thin


@dataclass(frozen=True)
class Curve:
    """One quantity over training: (n,) steps and (n,) values, without gaps."""

    steps: NDArray[np.float64]
    values: NDArray[np.float64]

    @property
    def empty(self) -> bool:
        """Whether it was never logged."""
        return len(self.steps) == 0


def curve(rows: Sequence[Mapping[str, object]], key: str) -> Curve:
    """What a record says of one quantity; rows without it, or with null, are left out.

    Args:
        rows: Rows of ``metrics.jsonl``.
        key: Name of the quantity.
    """
    pairs = [
        (float(str(row["step"])), float(value))
        for row in rows
        if isinstance(value := row.get(key), int | float) and not isinstance(value, bool)
    ]
    table = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return Curve(table[:, 0], table[:, 1])


def loss_figure(loss: Curve, collapsed: Curve, lower_bound: Curve) -> Picture:
    """Pre-training loss beside the value it takes if all embeddings are equal, and the least it can reach."""

    def paint(axes: Axes) -> None:
        _line(axes, loss, BLUE, "loss")
        for reference, name, dashes in ((collapsed, "collapsed", (0, (5, 2))), (lower_bound, "lower bound", ":")):
            if not reference.empty:
                axes.plot(
                    *_thinned(reference, window=_window(reference)),
                    color=MUTED if name != "collapsed" else VERMILLION,
                    linestyle=dashes,
                    linewidth=1.6,
                    label=name,
                )
        axes.set(title="Pre-training loss", xlabel="optimisation step", ylabel="loss")
        legend_below(axes)

    values_text = [f"loss {_ends(loss)}"]
    values_text += [f"collapse value {collapsed.values[-1]:.3g}"] if not collapsed.empty else []
    values_text += [f"lower bound {lower_bound.values[-1]:.3g}"] if not lower_bound.empty else []
    return draw(
        paint,
        alt=f"Pre-training loss over {_length(loss)} steps: {', '.join(values_text)}.",
        caption="On the dashed line nothing has been learnt: every slice gets the same embedding. "
        "The dotted line is the lowest the loss can go.",
    )


def single_figure(data: Curve, *, title: str, label: str, caption: str) -> list[Picture]:
    """One quantity over training, on an axis from 0; no picture if it was never logged."""
    if data.empty:
        return []

    def paint(axes: Axes) -> None:
        _line(axes, data, BLUE, None)
        axes.set(title=title, xlabel="optimisation step", ylabel=label)
        axes.set_ylim(0.0, 1.08 * max(float(data.values.max()), 1e-9))

    return [draw(paint, alt=f"{title} over {_length(data)} steps: {_ends(data)}.", caption=caption)]


def lines_figure(
    series: Mapping[str, Curve],
    *,
    title: str,
    label: str,
    caption: str,
    limits: tuple[float, float] | None = None,
    zero: bool = False,
    markers: bool = False,
) -> Picture:
    """Several quantities over training in one chart.

    Args:
        series: Name to curve; empty curves are left out.
        title: Above the chart.
        label: Of the vertical axis.
        caption: Below the picture.
        limits: Of the vertical axis; ends of None-like width are left to the data.
        zero: Whether to draw a line at 0.
        markers: Whether to mark the points: for few of them.
    """
    shown = {name: data for name, data in series.items() if not data.empty}

    def paint(axes: Axes) -> None:
        if zero:
            axes.axhline(0, color=MUTED, linewidth=1)
        for index, (name, data) in enumerate(shown.items()):
            look = series_look(index)
            steps, values = _thinned(data, window=1 if markers else _window(data))
            axes.plot(steps, values, label=name, marker="o" if markers else None, markersize=4, **look)
        axes.set(title=title, xlabel="optimisation step", ylabel=label)
        if limits is not None:
            axes.set_ylim(*limits)
        legend_below(axes)

    values_text = "; ".join(f"{name} {_ends(data)}" for name, data in shown.items())
    return draw(paint, alt=f"{title}: {values_text}.", caption=caption)


def _line(axes: Axes, data: Curve, colour: str, name: str | None) -> None:
    """The measured points faint, their moving mean strong."""
    window = _window(data)
    if window > 1:
        axes.plot(*_thinned(data, window=1), color=colour, alpha=0.3, linewidth=0.8)
    axes.plot(*_thinned(data, window=window), color=colour, label=name, marker="o" if len(data.steps) < 3 else None)


def _window(data: Curve) -> int:
    return max(1, len(data.steps) // 25)


def _thinned(data: Curve, *, window: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    kept = thin(len(data.steps))
    return data.steps[kept], smooth(data.values, window)[kept]


def _length(data: Curve) -> str:
    return f"{data.steps[-1] + 1:.0f}" if not data.empty else "0"


def _ends(data: Curve) -> str:
    if data.empty:
        return "not logged"
    first, last = data.values[0], smooth(data.values, _window(data))[-1]
    return f"from {first:.3g} to {last:.3g}"
