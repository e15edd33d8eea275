"""Runs side by side: what each was trained on, what it reaches, and differences where the same scans were scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from fewlabel.reporting.blocks import Block, Headline, Page, Picture, Section, Table, Text
from fewlabel.reporting.figure_style import SERIES, draw, legend_below
from fewlabel.reporting.formatting import DASH, between, count, number, p_value
from fewlabel.reporting.inputs import Inputs
from fewlabel.reporting.unseen_scores import UnseenScores, unseen_scores
from fewlabel.scoring.statistics import is_drawn, paired_comparison

#: Settings of a run that say nothing of what was done.
_ASIDE = frozenset(
    {"data", "out", "encoder", "start", "resume", "device", "identity", "checkpoint_seconds", "tracking"}
)
MARKS = "os^Dvp*X"
DIFFERENT = "The runs were not scored on the same scans, so their means may differ for that reason."


def comparison_page(runs: Mapping[str, Inputs], footer: str) -> Page:
    """The page of some runs.

    Args:
        runs: Folder to what lies in it, the first run first.
        footer: Of the page.
    """
    names = short_names(list(runs))
    inputs = dict(zip(names, runs.values(), strict=True))
    scores = {name: found for name, each in inputs.items() if (found := unseen_scores(each)) is not None}
    sections = [_trained(inputs, dict(zip(names, runs, strict=True)))]
    if scores:
        sections.append(_quality(names, scores))
        if len(scores) > 1:
            sections.append(_differences(scores))
    sections.append(_settings(inputs))
    best = max(scores, key=lambda name: _mean(scores[name])) if scores else ""
    sentence = f"{len(runs)} runs side by side."
    if len(scores) > 1 and _same_scans(scores):
        sentence += f" On the same scans the highest mean Dice, {number(_mean(scores[best]))}, is that of {best}."
    elif len(scores) > 1:
        sentence += f" {DIFFERENT}"
    return Page("Runs side by side", ", ".join(names), Headline(sentence), sections, footer=footer)


def short_names(folders: Sequence[str]) -> list[str]:
    """The last parts of paths that tell them apart.

    Example:
        >>> short_names(["a/run", "b/run", "other"])
        ['a/run', 'b/run', 'other']
    """
    parts = [Path(folder).resolve().parts for folder in folders]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return [name if names.count(name) == 1 else f"{name} ({place + 1})" for place, name in enumerate(names)]


def _mean(scores: UnseenScores) -> float:
    return scores.mean(scores.table.groupby(["subject", "case"])["dice"].mean().reset_index(), "dice")


def _same_scans(scores: Mapping[str, UnseenScores]) -> bool:
    sets = [frozenset(found.table["case"]) for found in scores.values()]
    return len(set(sets)) == 1


def _trained(inputs: Mapping[str, Inputs], folders: Mapping[str, str]) -> Section:
    rows = [["folder", *folders.values()]]
    used = {name: each.used.facts if each.used else {} for name, each in inputs.items()}
    rows.append(["network in use", *(each.use.get("arm", "model") if each.used else DASH for each in inputs.values())])
    rows.append(["annotated patients", *(str(len(facts.get("labelled_subjects", ()))) for facts in used.values())])
    rows.append(["regime", *(str(facts.get("regime", DASH)) for facts in used.values())])
    rows.append(["pre-training", *(each.method or "none" for each in inputs.values())])
    rows.append(["steps", *(str(facts.get("steps", DASH)) for facts in used.values())])
    rows.append(["networks", *(str(facts.get("members", 1)) if facts else DASH for facts in used.values())])
    table = Table(["", *inputs], rows, "", wrapped=frozenset(range(1, len(inputs) + 1)))
    return Section("trained", "What was trained", "", [table])


def _quality(names: Sequence[str], scores: Mapping[str, UnseenScores]) -> Section:
    structures = list(dict.fromkeys(str(name) for found in scores.values() for name in found.table["class_name"]))
    rows = []
    for structure in [*structures, "mean"]:
        rows.append([structure, *(_cell(scores.get(name), structure, "dice", 3) for name in names)])
    far = [["mean HD95", *(_cell(scores.get(name), "mean", "hd95_mm", 1) for name in names)]]
    far.append(["missed structures", *(_sum(scores.get(name), "missed") for name in names)])
    far.append(["stray objects", *(_sum(scores.get(name), "stray") for name in names)])
    numeric = frozenset(range(1, len(names) + 1))
    blocks: list[Block] = [
        _figure(structures, scores),
        Table(["Dice", *names], rows, "", numeric, frozenset({len(structures)})),
        Table(["", *names], far, "", numeric),
        *(Text(f"{name}: scored on {found.who}.", "note") for name, found in scores.items()),
    ]
    if not _same_scans(scores):
        blocks.append(Text(DIFFERENT, "missing"))
    return Section("quality", "How good each is", "", blocks)


def _cell(found: UnseenScores | None, structure: str, column: str, digits: int) -> str:
    if found is None:
        return DASH
    rows = found.table if structure == "mean" else found.table[found.table["class_name"] == structure]
    return number(found.mean(rows.groupby(["subject", "case"])[column].mean().reset_index(), column), digits)


def _sum(found: UnseenScores | None, column: str) -> str:
    return DASH if found is None or not found.has(column) else str(int(found.table[column].sum()))


def _figure(structures: Sequence[str], scores: Mapping[str, UnseenScores]) -> Picture:
    """Mean Dice of each structure, a mark for each run, its scans as faint points."""
    step = 0.7 / max(len(scores), 1)

    def paint(axes: Axes) -> None:
        for place, (name, found) in enumerate(scores.items()):
            colour, mark = SERIES[place % len(SERIES)], MARKS[place % len(MARKS)]
            heights = np.arange(len(structures)) + (place - (len(scores) - 1) / 2) * step
            for height, structure in zip(heights, structures, strict=True):
                rows = found.table[found.table["class_name"] == structure]
                dice = rows["dice"].to_numpy(np.float64)
                axes.scatter(dice, np.full(len(dice), height), s=9, color=colour, alpha=0.35, linewidth=0)
                look: dict[str, Any] = {
                    "s": 64,
                    "color": colour,
                    "marker": mark,
                    "edgecolor": "white",
                    "linewidth": 0.8,
                    "zorder": 3,
                }
                label = name if structure == structures[0] else None
                axes.scatter([found.mean(rows, "dice")], [height], label=label, **look)
        axes.set_yticks(range(len(structures)), structures)
        axes.invert_yaxis()
        axes.set_xlim(-0.02, 1.02)
        axes.set_xlabel("Dice")
        axes.set_title("Dice by structure")
        legend_below(axes)

    told = "; ".join(f"{name} mean {number(_mean(found))}" for name, found in scores.items())
    size = (4.5, 1.6 + 0.28 * len(structures) * len(scores))
    caption = "Large marks are means, small points the scans."
    return draw(paint, alt=f"Dice by structure of each run: {told}.", caption=caption, size=size)


def _differences(scores: Mapping[str, UnseenScores]) -> Section:
    """Each later run against the first, on the scans that both scored."""
    (first, base), *others = scores.items()
    ours = base.table.groupby("case")["dice"].mean()
    owners = base.table.drop_duplicates("case").set_index("case")["subject"]
    rows = []
    for name, found in others:
        theirs = found.table.groupby("case")["dice"].mean()
        shared = [case for case in ours.index if case in theirs.index]
        rows.append([name, *_difference(theirs, ours, shared, owners)])
    head = ["Run", "scans of both", "Dice", "95 % interval", "p", "verdict"]
    table = Table(head, rows, f"Each minus {first}", frozenset({1, 2, 3, 4}), wrapped=frozenset({5}))
    return Section("differences", "Differences on the same scans", "", [table])


def _difference(
    theirs: pd.Series[float], ours: pd.Series[float], shared: Sequence[Any], owners: pd.Series[Any]
) -> list[str]:
    if not shared:
        return ["0", DASH, DASH, DASH, "no scan was scored by both"]
    found = paired_comparison(
        [float(theirs[case]) for case in shared],
        [float(ours[case]) for case in shared],
        [str(owners[case]) for case in shared],
    )
    gain, drawn = found.gain, is_drawn(found.verdict)
    return [
        str(len(shared)),
        number(gain.mean, sign=True),
        between(gain.low, gain.high, sign=True),
        p_value(found.p if drawn else None),
        found.verdict,
    ]


def _settings(inputs: Mapping[str, Inputs]) -> Section:
    """Settings of the trainings in which the runs differ."""
    flat: dict[str, dict[str, str]] = {}
    for name, each in inputs.items():
        for role in ("prepared", "encoder", "segmenter"):
            manifest = each.manifests.get(role)
            for key, value in _leaves(manifest.settings if manifest else {}, role):
                flat.setdefault(key, {})[name] = value
    rows = [
        [key, *(values.get(name, DASH) for name in inputs)]
        for key, values in flat.items()
        # What one run alone has is that of another command.
        if len(values) == len(inputs) and len(set(values.values())) > 1
    ]
    title = "Settings that differ"
    if not rows:
        return Section("settings", title, "None does.")
    lead = f"{count(len(rows), 'setting')} of {len(flat)}."
    table = Table(["Setting", *inputs], rows, "", wrapped=frozenset(range(1, len(inputs) + 1)))
    return Section("settings", title, lead, [table])


def _leaves(values: Mapping[str, Any], prefix: str) -> list[tuple[str, str]]:
    leaves: list[tuple[str, str]] = []
    for key, value in values.items():
        if key in _ASIDE:
            continue
        if isinstance(value, Mapping):
            leaves += _leaves(value, f"{prefix}.{key}")
        else:
            leaves.append((f"{prefix}.{key}", str(value)))
    return leaves
