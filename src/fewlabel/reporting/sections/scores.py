"""How well each class was found, beside the control."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fewlabel.reporting.blocks import Block, Folded, Pictures, Section, Table, Text
from fewlabel.reporting.figures.scores import (
    DICE,
    HD95,
    ClassValues,
    Measure,
    case_figure,
    class_figure,
    gain_figure,
)
from fewlabel.reporting.formatting import DASH, between, count, estimate, interval_name, number, p_value
from fewlabel.reporting.inputs import Scores
from fewlabel.scoring.distance_units import Units, units_of
from fewlabel.scoring.statistics import is_drawn

UNITS = Units()
TITLE = "Segmentation quality"
MISSING = (
    "No scores: the run has no labelled scan in its test part, or it has not been evaluated. "
    "Quality can only be measured on annotated patients who were not used for training."
)
LEFT_OUT = (
    "No scores: no labelled scan of a test patient was evaluated. How the annotated patients scored when they were "
    "left out in turn is shown below."
)
ALONE = "No control was scored, so there is no gain to show. A control is the same network trained from scratch."
LEAD = (
    "Dice measures the overlap with the annotation, from 0 (none) to 1 (perfect). HD95 and ASSD measure how far apart "
    "the outlines are, in {distance}."
)
FAIR = " The control was trained on the same labels for the same number of steps."


def score_section(scores: Scores | None, *, model: str, control: str, left_out: bool = False) -> Section:
    """Dice and HD95 by class, gains with intervals, Dice by scan, and the table with distances and counts.

    Args:
        scores: What the evaluation left, or None.
        model: Name of the model.
        control: Name of the control.
        left_out: Whether left-out patients tell what to expect.
    """
    if scores is None:
        return Section("quality", TITLE, "", [Text(LEFT_OUT if left_out else MISSING, "missing")])
    summary, names = scores.summary, {"model": model, "control": control}
    gain = summary["gain"]
    pictures = []
    for measure in (DICE, replace(HD95, unit=f" {units_of(summary).distance}")):
        if summary["arms"]["model"]["mean"][measure.key]["mean"] is None:
            continue
        classes = class_values(scores, measure)
        interval = interval_name(summary)
        pictures.append(class_figure(classes, model=model, control=control, interval=interval, measure=measure))
        if gain:
            values = {entry["name"]: estimate(entry[measure.key]) for entry in gain["classes"].values()}
            verdict = gain["mean"][measure.key]["verdict"]
            caption = f"Paired difference with its {interval}; hollow where the interval contains 0. Mean: {verdict}."
            pictures.append(
                gain_figure({**values, "mean": estimate(gain["mean"][measure.key])}, caption=caption, measure=measure)
            )
    pictures.append(_cases(scores, model, control))
    blocks: list[Block] = [Pictures(pictures)]
    if not gain:
        blocks.append(Text(ALONE, "missing"))
    blocks.append(arm_table(summary, names))
    if gain:
        blocks.append(gain_table(gain, interval_name(summary), units_of(summary)))
    blocks += cleaned_notes(summary, names)
    blocks.extend(Text(line, "note") for line in trust(summary, names))
    protocol = summary.get("protocol", {})
    blocks.append(Text(f"Empty masks. {protocol.get('empty_masks', '')}", "note"))
    rules = [str(protocol[key]) for key in ("grid", "distances", "stray", "means", "leaks") if protocol.get(key)]
    blocks.append(Text(" ".join(rules), "note"))
    blocks.append(Folded("Every scan", case_table(scores.per_case, names, units_of(summary))))
    unlike = summary.get("differences", [])
    distance = "millimetres" if units_of(summary) == UNITS else "voxels, as nobody knows how large these are"
    remark = f" The control is not a fair one: it differs in {'; '.join(unlike)}." if unlike else FAIR
    return Section("quality", TITLE, LEAD.format(distance=distance) + (remark if gain else ""), blocks)


def class_values(scores: Scores, measure: Measure) -> list[ClassValues]:
    """A measure of every class, the control's in the order of the model's cases."""
    table, summary = scores.per_case, scores.summary
    arms = summary["arms"]
    classes = []
    for index, name in summary["classes"].items():
        rows = table[table["class"] == int(index)].set_index("case")
        ours = rows[rows["arm"] == "model"][measure.key]
        theirs = rows[rows["arm"] == "control"][measure.key] if "control" in arms else None
        classes.append(
            ClassValues(
                name=str(name),
                model=ours.to_numpy(np.float64),
                control=None if theirs is None else theirs.loc[ours.index].to_numpy(np.float64),
                model_mean=estimate(arms["model"]["classes"][index][measure.key]),
                control_mean=estimate(arms["control"]["classes"][index][measure.key]) if "control" in arms else None,
            )
        )
    return classes


def mean_dice(table: pd.DataFrame, arm: str) -> pd.Series[float]:
    """Mean Dice over classes of each case of an arm, indexed by case, in the table's order."""
    rows = table[table["arm"] == arm]
    return rows.groupby("case", sort=False)["dice"].mean()


def _cases(scores: Scores, model: str, control: str) -> Any:
    ours = mean_dice(scores.per_case, "model")
    theirs = mean_dice(scores.per_case, "control").reindex(ours.index)
    return case_figure(
        list(ours.index),
        np.asarray(ours, np.float64),
        np.asarray(theirs, np.float64) if "control" in scores.summary["arms"] else None,
        model_name=model,
        control_name=control,
    )


def arm_table(summary: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """A row per class and arm: Dice, distances, and structures and objects to look at."""
    rows = [
        [
            label,
            names.get(arm, arm),
            number(entry["dice"]["mean"]),
            number(entry["dice"]["std"]),
            between(entry["dice"]["low"], entry["dice"]["high"]),
            number(entry["hd95_mm"]["mean"], 1),
            number(entry["assd_mm"]["mean"], 2),
            str(entry["missed"]),
            # Scores that were made before these were counted have none.
            str(entry.get("lost", DASH)),
            str(entry["invented"]),
            str(entry.get("stray", DASH)),
            number(entry.get("stray_ml"), 1),
        ]
        for label, arm, entry in by_class(summary["arms"])
    ]
    means = frozenset(range(len(rows) - len(summary["arms"]), len(rows)))
    units = units_of(summary)
    head = ["Class", "Network", "Dice", "std", interval_name(summary)]
    head += [f"HD95 {units.distance}", f"ASSD {units.distance}"]
    head += ["missed", "lost", "invented", "stray", f"stray {units.volume}"]
    return Table(head, rows, "By class", frozenset(range(2, len(head))), means)


def by_class(arms: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Name of each class, or ``mean``, name of each arm, and what is known of the two.

    Args:
        arms: Arm to ``classes`` (index to a mapping with ``name``) and ``mean``; the mean comes last.
    """
    first = next(iter(arms.values()))
    for key in (*first["classes"], "mean"):
        for arm, values in arms.items():
            entry = values["mean"] if key == "mean" else values["classes"][key]
            yield str(entry.get("name", "mean")), arm, entry


def cleaned_notes(summary: Mapping[str, Any], names: Mapping[str, str]) -> list[Block]:
    """What post-processing took from each network's predictions, and its rule; empty where none was used."""
    removed = {arm: values["mean"].get("postprocess", {}) for arm, values in summary["arms"].items()}
    volume = units_of(summary).volume
    remarks = [
        f"{names.get(arm, arm)}, {count(taken['removed'], 'piece')} ({number(taken['removed_ml'], 1)} {volume}) in "
        f"{taken['scans']} of {count(summary['cases'], 'scan')}, mean Dice without it {number(taken['dice_before'])}"
        for arm, taken in removed.items()
        if taken.get("removed")
    ]
    if not remarks:
        return []
    rule = summary.get("protocol", {}).get("postprocess", "")
    return [Text(f"Removed by post-processing: {'; '.join(remarks)}."), Text(rule, "note")]


def trust(summary: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """A line per ensemble: how far its networks lie apart, and how well that ranks the scans by quality."""
    lines = []
    for arm, apart in summary.get("disagreement", {}).items():
        remark = (
            f"Disagreement, {names.get(arm, arm)}: its networks disagree by {number(apart['mean'])} on average (1 "
            "minus the mean Dice between two of them; 0 is no disagreement)."
        )
        scans = count(apart["cases"], "scan")
        rank = f"Over {scans} it has no rank correlation with Dice."
        if apart["spearman"] is not None:
            rank = (
                f"Its rank correlation with mean Dice over {scans} is {number(apart['spearman'], 2, sign=True)}: "
                f"{number(-1, 0)} means that the scans with the most disagreement are the worst ones, 0 that it says "
                "nothing about quality."
            )
        lines.append(f"{remark} {rank}{_found_failures(apart)}")
    return lines


def _found_failures(apart: Mapping[str, Any]) -> str:
    """How well disagreement finds failed scans; empty of older scores, and where all scans or none failed."""
    found = apart.get("failures", {"auroc": None})
    if found["auroc"] is None:
        return ""
    interval = "" if found["low"] is None else f", {between(found['low'], found['high'])}"
    return (
        f" {found['failed']} of them failed (Dice below {number(found['below'], 1)}); the area under its ROC curve in "
        f"finding these is {number(found['auroc'])}{interval} (1: they come first; {number(0.5, 1)}: as by chance)."
    )


def gain_table(gain: Mapping[str, Any], interval: str, units: Units = UNITS) -> Table:
    """A row per class: the paired differences in Dice and distances, and what may be said; no p without a test."""
    entries = [*gain["classes"].values(), {"name": "mean", **gain["mean"]}]
    rows = [
        [
            str(entry["name"]),
            number(entry["dice"]["mean"], sign=True),
            between(entry["dice"]["low"], entry["dice"]["high"], sign=True),
            p_value(entry["dice"]["p"] if is_drawn(entry["dice"]["verdict"]) else None),
            number(entry["hd95_mm"]["mean"], 1, sign=True),
            between(entry["hd95_mm"]["low"], entry["hd95_mm"]["high"], 1, sign=True),
            str(entry["dice"]["verdict"]),
        ]
        for entry in entries
    ]
    head = ["Class", "Dice", interval, "p", f"HD95 {units.distance}", interval, "Dice verdict"]
    return Table(
        head,
        rows,
        "Model minus control (for HD95, lower is better)",
        numeric=frozenset(range(1, 6)),
        strong=frozenset({len(rows) - 1}),
        wrapped=frozenset({6}),
    )


def case_table(table: pd.DataFrame, names: Mapping[str, str], units: Units = UNITS) -> Table:
    """A row per scan, class and arm."""
    rows = [
        [
            str(row["case"]),
            str(row["class_name"]),
            names.get(str(row["arm"]), str(row["arm"])),
            number(float(row["dice"])),
            number(float(row["hd95_mm"]), 1),
            number(float(row["assd_mm"]), 2),
            number(float(row["reference_ml"]), 1),
            number(float(row["predicted_ml"]), 1),
            str(row.get("stray", DASH)),
            "missed" if row["missed"] else "invented" if row["invented"] else "",
        ]
        for row in table.sort_values(["case", "class", "arm"], kind="stable").to_dict("records")
    ]
    far, volume = units.distance, units.volume
    head = ["Scan", "Class", "Network", "Dice", f"HD95 {far}", f"ASSD {far}"]
    head += [f"annotated {volume}", f"predicted {volume}", "stray", ""]
    return Table(head, rows, "", frozenset(range(3, 9)))
