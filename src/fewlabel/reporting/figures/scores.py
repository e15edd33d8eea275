"""Dice and HD95 of a model and its control."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import ScalarFormatter
from numpy.typing import NDArray

from fewlabel.reporting.blocks import Picture
from fewlabel.reporting.figure_style import CONTROL, INK, MODEL, MUTED, draw, legend_below


@dataclass(frozen=True)
class Measure:
    """What is measured, as figures name it.

    Attributes:
        key: Its name in ``summary.json`` and column of the per-case table.
        name: What people call it.
        unit: Behind a number, with a space before it; empty for none.
        digits: Of a mean.
        larger_is_better: False for distances.
    """

    key: str
    name: str
    unit: str
    digits: int
    larger_is_better: bool


DICE = Measure("dice", "Dice", "", 2, larger_is_better=True)
HD95 = Measure("hd95_mm", "HD95", " mm", 1, larger_is_better=False)
#: Beyond this the axis of a distance is logarithmic: a missed structure counts as the diagonal of its scan.
_FAR_MM = 50.0


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval; an end is None where the interval is unknown."""

    mean: float
    low: float | None = None
    high: float | None = None

    def text(self, digits: int = 3, *, sign: bool = False) -> str:
        """``0.712 (0.650 to 0.770)``."""
        plus = "+" if sign else ""
        value = f"{self.mean:{plus}.{digits}f}"
        if self.low is None or self.high is None:
            return value
        return f"{value} ({self.low:{plus}.{digits}f} to {self.high:{plus}.{digits}f})"


@dataclass(frozen=True)
class ClassValues:
    """One measure of one class: (cases,) of the model, of the control in the same order or None, and both means."""

    name: str
    model: NDArray[np.float64]
    control: NDArray[np.float64] | None
    model_mean: Estimate
    control_mean: Estimate | None


def class_figure(
    classes: Sequence[ClassValues], *, model: str, control: str, interval: str, measure: Measure = DICE
) -> Picture:
    """A dot per case and class, lines joining the same case, means with intervals beside them.

    Args:
        classes: In the order to show.
        model: Name of the model.
        control: Name of the control.
        interval: What the intervals are, e.g. ``95 % interval``.
        measure: What is shown; cases without a value, NaN, are left out.
    """

    def paint(axes: Axes) -> None:
        for row, item in enumerate(classes):
            spread = np.linspace(-0.13, 0.13, len(item.model)) if len(item.model) > 1 else np.zeros(1)
            order = np.argsort(np.argsort(item.model, kind="stable"), kind="stable")
            jitter = spread[order] if len(item.model) else spread[:0]
            if item.control is not None:
                xs = np.stack([row - 0.2 + jitter, row + 0.2 + jitter])
                axes.plot(xs, np.stack([item.control, item.model]), color="#cfcfcf", linewidth=0.8)
                axes.plot(row - 0.2 + jitter, item.control, "s", color=CONTROL, markersize=4, alpha=0.75)
            at = row + (0.2 if item.control is not None else 0.0)
            axes.plot(at + jitter, item.model, "o", color=MODEL, markersize=4.5, alpha=0.8)
            _mean(axes, at + 0.21, item.model_mean, MODEL, "o")
            if item.control_mean is not None:
                _mean(axes, row - 0.41, item.control_mean, CONTROL, "s")
        if any(item.control is not None for item in classes):
            axes.plot([], [], "s", color=CONTROL, label=control)
        axes.plot([], [], "o", color=MODEL, label=model)
        axes.set_xticks(range(len(classes)), [_wrapped(item.name) for item in classes])
        axes.set(title=f"{measure.name} by class", ylabel=f"{measure.name}{measure.unit}")
        axes.set_xlim(-0.6, len(classes) - 0.4)
        if measure is DICE:
            axes.set_ylim(-0.03, 1.03)
        else:
            _distances(axes, classes)
        axes.grid(visible=False, axis="x")
        legend_below(axes)

    values_text = "; ".join(
        f"{item.name}: {item.model_mean.text(measure.digits)}"
        + (f" against {item.control_mean.text(measure.digits)}" if item.control_mean is not None else "")
        for item in classes
        if not math.isnan(item.model_mean.mean)
    )
    return draw(
        paint,
        alt=f"{measure.name}{measure.unit} by class, mean and {interval}, {model} against {control}. {values_text}.",
        caption=f"Each dot is a scan; grey lines join the same scan. Large marks are means with their {interval}.",
        size=(4.5, 3.6),
    )


def gain_figure(gains: Mapping[str, Estimate], *, caption: str, measure: Measure = DICE) -> Picture:
    """Model minus control with its interval; intervals that touch 0 are drawn hollow.

    Args:
        gains: Name of the class, or of the mean, to paired difference; NaN where there is none.
        caption: Below the picture.
        measure: What is shown.
    """
    names = list(gains)
    title = "Gain in Dice over the control" if measure is DICE else f"{measure.name} minus the control's"
    digits, least = (3, 0.02) if measure is DICE else (measure.digits, 0.5)

    def paint(axes: Axes) -> None:
        axes.axvline(0, color=INK, linewidth=1)
        for row, name in enumerate(reversed(names)):
            gain = gains[name]
            known = gain.low is not None and gain.high is not None
            sure = gain.low is not None and gain.high is not None and not gain.low <= 0 <= gain.high
            if known:
                axes.plot([gain.low or 0.0, gain.high or 0.0], [row, row], color=MODEL, linewidth=2.5)
            axes.plot(gain.mean, row, "o", markersize=9, color=MODEL, markerfacecolor=MODEL if sure else "white")
            values_text = "" if math.isnan(gain.mean) else f"{gain.mean:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
            axes.annotate(
                values_text, (gain.mean, row), xytext=(0, 9), textcoords="offset points", ha="center", fontsize=9.5
            )  # fmt: skip
        axes.set_yticks(range(len(names)), [_wrapped(name) for name in reversed(names)])
        axes.set_ylim(-0.5, len(names) - 0.3)
        ends = [abs(end) for gain in gains.values() for end in (gain.low, gain.high, gain.mean) if end is not None]
        reach = 1.2 * max([least, *(end for end in ends if not math.isnan(end))])
        axes.set_xlim(-reach, reach)
        sides = ("control", "model") if measure.larger_is_better else ("model", "control")
        axes.set(title=title, xlabel=f"{sides[0]} better  ←   0{measure.unit}   →  {sides[1]} better")
        axes.grid(visible=False, axis="y")

    known = {name: gain for name, gain in gains.items() if not math.isnan(gain.mean)}
    values_text = "; ".join(f"{name} {gain.text(digits, sign=True)}{measure.unit}" for name, gain in known.items())
    return draw(
        paint, alt=f"{title} with interval: {values_text}.", caption=caption, size=(4.5, 1.5 + 0.5 * len(names))
    )


def case_figure(
    cases: Sequence[str],
    model: NDArray[np.float64],
    control: NDArray[np.float64] | None,
    *,
    model_name: str,
    control_name: str,
    most: int = 40,
) -> Picture:
    """Mean Dice of each case, worst at the bottom, joined to the control's.

    Args:
        cases: Names, n of them.
        model: (n,) mean Dice over the classes.
        control: (n,) of the control, or None.
        model_name: Name of the model.
        control_name: Name of the control.
        most: Cases shown; beyond it an even choice from worst to best.
    """
    order = np.argsort(model, kind="stable")
    if len(order) > most:
        order = order[np.unique(np.linspace(0, len(order) - 1, most).round().astype(int))]

    def paint(axes: Axes) -> None:
        rows = np.arange(len(order))
        if control is not None:
            axes.hlines(rows, control[order], model[order], color="#bdbdbd", linewidth=1.6)
            axes.plot(control[order], rows, "s", color=CONTROL, markersize=5, label=control_name)
        axes.plot(model[order], rows, "o", color=MODEL, markersize=6, label=model_name)
        axes.set_yticks(rows, [cases[index] for index in order], fontsize=8.5)
        axes.set_ylim(-0.7, len(order) - 0.3)
        values = [model] if control is None else [model, control]
        least = min(float(np.nanmin(value)) for value in values)
        axes.set_xlim(max(-0.02, least - 0.08), 1.02)
        axes.set(title="Mean Dice by scan", xlabel="Dice, mean over classes")
        axes.tick_params(axis="y", length=0, labelcolor=MUTED)
        legend_below(axes)

    better = "" if control is None else f" {int((model > control).sum())} of {len(model)} scans improve on the control."
    alt = f"Mean Dice of {len(model)} scans, from {np.nanmin(model):.2f} to {np.nanmax(model):.2f}.{better}"
    shown = "" if len(order) == len(model) else f" {len(order)} of {len(model)} scans, evenly from worst to best."
    return draw(
        paint,
        alt=alt,
        caption=f"Best at the top; grey bars show the difference from the control.{shown}",
        size=(4.5, 1.6 + 0.21 * len(order)),
    )


def _distances(axes: Axes, classes: Sequence[ClassValues]) -> None:
    """An axis of mm from 0; logarithmic from 10 on where there are far ones."""
    values = np.concatenate([arm for item in classes for arm in (item.model, item.control) if arm is not None])
    most = float(values[np.isfinite(values)].max(initial=0.0))
    if most > _FAR_MM:
        axes.set_yscale("symlog", linthresh=10)
        axes.set_yticks([0, 5, 10, *[tick for tick in (20, 50, 100, 200, 500, 1000) if tick < 1.5 * most]])
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.minorticks_off()
    axes.set_ylim(-0.03 * min(most, 10.0), max(1.15 * most, 1.0))


def _mean(axes: Axes, at: float, estimate: Estimate, colour: str, mark: str) -> None:
    if estimate.low is not None and estimate.high is not None:
        axes.plot([at, at], [estimate.low, estimate.high], color=colour, linewidth=2)
    axes.plot(at, estimate.mean, mark, color=colour, markersize=7.5, markeredgecolor="white", markeredgewidth=0.8)


def _wrapped(name: str) -> str:
    return name.replace(" ", "\n", 1) if len(name) > 10 else name
