"""Curves over the number of labelled patients."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabel.reporting.blocks import Picture
from fewlabel.reporting.figure_style import canvas, embed, legend_below, series_look

#: Lines that can be told apart in one figure.
MOST = 8


def curves(statistics: Mapping[str, Any]) -> list[Picture]:
    """Dice of each arm over the number of labelled patients, with deviations; nothing for a single number.

    Of many arms, the control and those of the highest mean are shown.
    """
    budgets = [budget for budget in statistics["budgets"] if budget != "all"]
    lines = {
        arm: [(int(budget), cells[budget]["spread"]) for budget in budgets if budget in cells]
        for arm, cells in statistics["cells"].items()
    }
    lines = {arm: points for arm, points in lines.items() if len(points) > 1}
    if not lines:
        return []
    best = sorted(lines, key=lambda arm: -sum(spread["mean"] for _, spread in lines[arm]) / len(lines[arm]))
    kept = [arm for arm in lines if arm == statistics["control"] or arm in best[: MOST - 1]]
    with canvas((6.0, 3.8)) as figure:
        axes = figure.add_subplot()
        for at, arm in enumerate(kept):
            numbers = [number for number, _ in lines[arm]]
            means = [spread["mean"] for _, spread in lines[arm]]
            errors = [spread["std"] or 0.0 for _, spread in lines[arm]]
            axes.errorbar(numbers, means, yerr=errors, capsize=3, marker="o", label=arm, **series_look(at))
        axes.set_xscale("log", base=2)
        shown = sorted({number for points in lines.values() for number, _ in points})
        axes.set_xticks(shown, [str(number) for number in shown])
        axes.set_xlabel("labelled patients")
        axes.set_ylabel("Dice")
        legend_below(axes)
        left_out = len(lines) - len(kept)
        beside = f"; {left_out} arms of lower mean are left out" if left_out else ""
        caption = f"Dice over the number of labelled patients, mean and deviation over trainings{beside}."
        words = ", ".join(f"{arm} {lines[arm][0][1]['mean']:.3f} to {lines[arm][-1][1]['mean']:.3f}" for arm in kept)
        return [embed(figure, alt=f"Dice from {shown[0]} to {shown[-1]} labelled patients: {words}", caption=caption)]
