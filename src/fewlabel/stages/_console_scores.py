"""What an evaluation tells on the console: each network, then the gain; lines fit 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewlabel.scoring.distance_units import Units, units_of
from fewlabel.scoring.statistics import is_drawn, useless_sentence

UNITS = Units()
#: Measure → its name, its unit and its digits.
_MEASURES = {"dice": ("Dice", "", 3), "hd95_mm": ("HD95", " {distance}", 1)}


def score_lines(summary: Mapping[str, Any]) -> list[str]:
    """Lines for the content of a ``summary.json``."""
    lines = []
    units = units_of(summary)
    for name, arm in summary["arms"].items():
        mean = arm["mean"]
        lines.append(f"{name}: {', '.join(_means(mean, units))}")
        lines.append(f"  missed {mean['missed']}, lost {mean['lost']}, invented {mean['invented']} structures")
        lines.append(
            f"  {mean['stray']} stray objects ({mean['stray_ml']:.1f} {units.volume}) in {summary['cases']} scans"
        )
        took = mean["postprocess"]
        if took["removed"]:
            pieces = f"{took['removed']} pieces ({took['removed_ml']:.1f} {units.volume}) in {took['scans']} scans"
            lines.append(f"  post-processing removed {pieces}; Dice without {took['dice_before']:.3f}")
    for name, apart in summary.get("disagreement", {}).items():
        rank = "" if apart["spearman"] is None else f", rank correlation with Dice {apart['spearman']:+.2f}"
        lines.append(f"{name}: disagreement of its networks {apart['mean']:.3f}{rank}")
        # Older scores do not say it.
        found = apart.get("failures", {"auroc": None})
        if found["auroc"] is not None:
            interval = "" if found["low"] is None else f" ({found['low']:.2f} to {found['high']:.2f})"
            failed = f"{found['failed']} of {apart['cases']} scans, Dice below {found['below']:g}"
            lines.append(f"  finds failures ({failed}): AUROC {found['auroc']:.2f}{interval}")
    if sentence := useless_sentence(summary["arms"]["model"]["mean"]["dice"]["mean"]):
        lines.append(sentence)
    if summary["gain"]:
        lines.append("gain over the control:")
        lines += [f"  {line}" for line in gain_lines(summary["gain"]["mean"], units)]
    if summary["differences"]:
        lines.append(f"Not a fair control: it differs from the model in {'; '.join(summary['differences'])}.")
    return lines


def gain_lines(mean: Mapping[str, Any], units: Units = UNITS) -> list[str]:
    """``Dice +0.050 (+0.010 to +0.090), p = 0.031: gain outside the noise``, and HD95 likewise, where it was measured.

    What keeps a gain from being judged, such as too few patients, follows in a line of its own; then there is no test.

    Args:
        mean: Of the ``gain`` of a ``summary.json``, the entry ``mean``.
        units: That it is in.
    """
    lines: list[str] = []
    untold: list[str] = []
    for key, (name, unit, digits) in _MEASURES.items():
        gain = mean[key]
        if gain["mean"] is None:
            continue
        line = f"{name} {gain['mean']:+.{digits}f}{_between(gain, digits, '+')}{_unit(unit, units)}"
        # Scores of earlier versions say "gain, but ..." of too few.
        verdict = str(gain["verdict"]).rpartition(", but ")[2]
        if is_drawn(verdict):
            p = "" if gain["p"] is None else f", p = {gain['p']:.3g}"
            line = f"{line}{p}: {verdict}"
        else:
            untold.append(verdict)
        lines.append(line)
    return [*lines, *dict.fromkeys(untold)]


def _means(mean: Mapping[str, Any], units: Units) -> list[str]:
    """``mean Dice 0.712 (0.650 to 0.770)`` and the same of HD95, where it was measured."""
    return [
        f"mean {name} {mean[key]['mean']:.{digits}f}{_between(mean[key], digits)}{_unit(unit, units)}"
        for key, (name, unit, digits) in _MEASURES.items()
        if mean[key]["mean"] is not None
    ]


def _unit(unit: str, units: Units) -> str:
    return unit.format(distance=units.distance)


def _between(values: Mapping[str, Any], digits: int, sign: str = "") -> str:
    if values["low"] is None:
        return ""
    return f" ({values['low']:{sign}.{digits}f} to {values['high']:{sign}.{digits}f})"
