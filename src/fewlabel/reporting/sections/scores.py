"""How well each class was found, beside the control."""

from __future__ import annotations

from collections.abc import Mapping
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
from fewlabel.reporting.inputs import Scores
from fewlabel.reporting.words import DASH, between, count, estimate, interval_name, number, p_value
from fewlabel.scoring.units import Units, units_of

UNITS = Units()
TITLE = "Segmentation quality"
MISSING = (
    "No scores: the run has no labelled scan in its test part, or it has not been evaluated. "
    "Without annotated patients that took part in no training nothing can be said about quality."
)
LEFT_OUT = (
    "No scores: no labelled scan of a patient kept for testing was evaluated. What the annotated patients reached who "
    "were left out in turn is below."
)
ALONE = "No control was scored, so there is no gain to show. A control is the same network trained from scratch."
LEAD = (
    "Dice is the overlap with the annotation, 0 (none) to 1 (perfect). Distances tell how far the outlines lie apart, "
    "in {distance}."
)
FAIR = " The control saw the same labels for the same number of steps."


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
    summary = scores.summary
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
            caption = f"Paired difference with its {interval}; hollow where that holds 0. Mean: {verdict}."
            pictures.append(
                gain_figure({**values, "mean": estimate(gain["mean"][measure.key])}, caption=caption, measure=measure)
            )
    pictures.append(_cases(scores, model, control))
    blocks: list[Block] = [Pictures(pictures)]
    if not gain:
        blocks.append(Text(ALONE, "missing"))
    blocks.append(arm_table(summary, {"model": model, "control": control}))
    if gain:
        blocks.append(gain_table(gain, interval_name(summary), units_of(summary)))
    blocks += cleaned_notes(summary, {"model": model, "control": control})
    blocks.extend(Text(line, "note") for line in trust(summary, {"model": model, "control": control}))
    protocol = summary.get("protocol", {})
    blocks.append(Text(f"Empty masks. {protocol.get('empty_masks', '')}", "note"))
    kept = [key for key in ("grid", "distances", "stray", "means", "leaks") if protocol.get(key)]
    rules = " ".join(str(protocol[key]) for key in kept)
    blocks.append(Text(rules, "note"))
    blocks.append(
        Folded("Every scan", case_table(scores.per_case, {"model": model, "control": control}, units_of(summary)))
    )
    unlike = summary.get("differences", [])
    distance = "millimetres" if units_of(summary) == UNITS else "voxels, as nobody knows how large these are"
    remark = f" The control is not a fair one: it differs in {'; '.join(unlike)}." if unlike else FAIR
    return Section("quality", TITLE, LEAD.format(distance=distance) + (remark if gain else ""), blocks)


def class_values(scores: Scores, measure: Measure) -> list[ClassValues]:
    """A measure of every class, the control's in the order of the model's cases."""
    table, summary = scores.per_case, scores.summary
    arms = summary["arms"]
    found = []
    for index, name in summary["classes"].items():
        rows = table[table["class"] == int(index)].set_index("case")
        ours = rows[rows["arm"] == "model"][measure.key]
        theirs = rows[rows["arm"] == "control"][measure.key] if "control" in arms else None
        found.append(
            ClassValues(
                name=str(name),
                model=ours.to_numpy(np.float64),
                control=None if theirs is None else theirs.loc[ours.index].to_numpy(np.float64),
                model_mean=estimate(arms["model"]["classes"][index][measure.key]),
                control_mean=estimate(arms["control"]["classes"][index][measure.key]) if "control" in arms else None,
            )
        )
    return found


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
    rows: list[list[str]] = []
    strong = set()
    entries = [(entry["name"], key) for key, entry in summary["arms"]["model"]["classes"].items()] + [("mean", "mean")]
    for label, key in entries:
        for arm in summary["arms"]:
            of_arm = summary["arms"][arm]
            entry = of_arm["mean"] if key == "mean" else of_arm["classes"][key]
            if key == "mean":
                strong.add(len(rows))
            rows.append(
                [
                    str(label),
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
            )
    units = units_of(summary)
    head = ["Class", "Network", "Dice", "std", interval_name(summary)]
    head += [f"HD95 {units.distance}", f"ASSD {units.distance}"]
    head += ["missed", "lost", "invented", "stray", f"stray {units.volume}"]
    return Table(head, rows, "By class", frozenset(range(2, len(head))), frozenset(strong))


def cleaned_notes(summary: Mapping[str, Any], names: Mapping[str, str]) -> list[Block]:
    """What post-processing took from each network's predictions, and its rule; empty where none was used."""
    took = {
        names.get(arm, arm): found["mean"]["postprocess"]
        for arm, found in summary["arms"].items()
        if found["mean"].get("postprocess", {}).get("removed")
    }
    remark = [
        f"{name}: {count(found['removed'], 'piece')} ({number(found['removed_ml'], 1)} {units_of(summary).volume}) in "
        f"{found['scans']} of {count(summary['cases'], 'scan')}; mean Dice without it {number(found['dice_before'])}"
        for name, found in took.items()
    ]
    if not remark:
        return []
    rule = summary.get("protocol", {}).get("postprocess", "")
    return [Text(f"Post-processing removed of {'. Of '.join(remark)}.", "plain"), Text(rule, "note")]


def trust(summary: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """A line per ensemble: how far its networks lie apart, and how well that ranks the scans by quality."""
    lines = []
    for arm, found in summary.get("disagreement", {}).items():
        remark = (
            f"Trust, {names.get(arm, arm)}: its networks disagree by {number(found['mean'])} on average (1 minus the "
            "mean Dice between two of them; 0 is no disagreement)."
        )
        scans = count(found["cases"], "scan")
        rank = f"Over {scans} that cannot be ranked against Dice."
        if found["spearman"] is not None:
            rank = (
                f"Its rank correlation with mean Dice over {scans} is {number(found['spearman'], 2, sign=True)}: "
                f"{number(-1, 0)} means that the scans with the most disagreement are the worst ones, 0 that it says "
                "nothing of quality."
            )
        lines.append(f"{remark} {rank}")
    return lines


def gain_table(gain: Mapping[str, Any], interval: str, units: Units = UNITS) -> Table:
    """A row per class: the paired differences in Dice and distances, and what may be said; no p without a test."""
    entries = [*gain["classes"].values(), {"name": "mean", **gain["mean"]}]
    rows = [
        [
            str(entry["name"]),
            number(entry["dice"]["mean"], sign=True),
            between(entry["dice"]["low"], entry["dice"]["high"], sign=True),
            p_value(None if ", but " in entry["dice"]["verdict"] else entry["dice"]["p"]),
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
        "Model minus control (for HD95 less is better)",
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
