"""The semantic-contradiction view: whether the meta labels' gradients agree, when and where in the encoder."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.reporting.blocks import Block, Picture, Pictures, Section, Table, Text
from fewlabel.reporting.figures.gradient_conflicts import conflict_map
from fewlabel.reporting.figures.training import Curve, curve, lines_figure
from fewlabel.reporting.formatting import number, percent
from fewlabel.reporting.inputs import Training

TITLE = "Do the meta labels contradict each other?"
LEAD = (
    "Each meta label pulls different slices together: those of the same patient, the same position or the same phase. "
    "Where two labels want opposite changes to the same weights, their gradients conflict (negative cosine). "
    "GradMitigator compares every pair in every parameter tensor and, where they agree less than they used to, turns "
    "one towards the other."
)
_LAYER = re.compile(r"encoder\.blocks\.(\d+)\.(conv|norm)(\d)(?:\.(weight|bias))?")


def gradient_section(encoder: Training) -> Section:
    """Cosines, conflicts, targets and amplification over time, and conflicts by tensor and by level."""
    why = _missing(encoder)
    if why:
        return Section("contradiction", TITLE, "", [Text(why, "missing")])
    rows = encoder.rows
    pairs = logged_pairs(rows)
    cosine = both_ways(rows, "cosine", pairs)
    pictures = [
        lines_figure(
            cosine,
            title="Cosine between gradients",
            label="mean cosine",
            caption="Mean over parameter tensors, before mitigation. Below 0 the labels contradict each other.",
            zero=True,
        ),
        lines_figure(
            {name: Curve(line.steps, 100 * line.values) for name, line in both_ways(rows, "conflict", pairs).items()},
            title="Tensors in conflict",
            label="% of tensors",
            caption="Share of parameter tensors whose cosine is below 0: how much of the encoder is pulled both ways.",
            limits=(0.0, 100.0),
        ),
        lines_figure(
            both_ways(rows, "target", pairs),
            title="Target agreement",
            label="mean target cosine",
            caption="The moving average that a pair is held to; it starts at 0.",
            zero=True,
        ),
        lines_figure(
            both_ways(rows, "gain", pairs),
            title="Amplification",
            label="length after / before",
            caption="How much longer a gradient becomes where it is turned; 1 means unchanged.",
        ),
    ]
    blocks: list[Block] = [Pictures(pictures), pair_table(rows, pairs), *_where(encoder.details)]
    return Section("contradiction", TITLE, LEAD, blocks)


def _missing(encoder: Training) -> str:
    if logged_pairs(encoder.rows):
        return ""
    used = list(encoder.facts.get("meta_labels", []))
    if len(used) < 2:
        return (
            f"{encoder.facts.get('method')} used {len(used) or 'no'} meta label{'s' if len(used) != 1 else ''}; a "
            "contradiction takes two."
        )
    return "The gradients of the meta labels were averaged without being compared (no GradMitigator)."


def logged_pairs(rows: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Unordered pairs of terms whose cosine was logged, in the order of the record."""
    terms: dict[str, None] = {}
    logged = set()
    for row in rows:
        for key in row:
            if key.startswith("cosine/") and "|" in key:
                first, _, second = key.removeprefix("cosine/").partition("|")
                terms.update({first: None, second: None})
                logged.add((first, second))
    return [(a, b) for a, b in combinations(terms, 2) if (a, b) in logged or (b, a) in logged]


def both_ways(rows: Sequence[Mapping[str, Any]], name: str, pairs: Sequence[tuple[str, str]]) -> dict[str, Curve]:
    """Curves of a quantity by pair, the mean of both orders of the pair.

    Args:
        rows: Rows of the record.
        name: ``cosine``, ``conflict``, ``below_target``, ``target`` or ``gain``.
        pairs: Unordered pairs.
    """
    merged = []
    for row in rows:
        values: dict[str, Any] = {"step": row["step"]}
        for a, b in pairs:
            both = [row.get(f"{name}/{a}|{b}"), row.get(f"{name}/{b}|{a}")]
            known = [float(value) for value in both if value is not None]
            if known:
                values[_pair(a, b)] = sum(known) / len(known)
        merged.append(values)
    return {_pair(a, b): curve(merged, _pair(a, b)) for a, b in pairs}


def pair_table(rows: Sequence[Mapping[str, Any]], pairs: Sequence[tuple[str, str]]) -> Table:
    """A row per pair: agreement at first and at last, conflicts, what was changed."""
    series = {name: both_ways(rows, name, pairs) for name in ("cosine", "conflict", "below_target", "target", "gain")}
    body = []
    for a, b in pairs:
        name = _pair(a, b)
        cosine = series["cosine"][name].values
        tenth = max(1, len(cosine) // 10)
        target = series["target"][name].values
        body.append(
            [
                name,
                number(float(cosine[:tenth].mean()), 2, sign=True),
                number(float(cosine[-tenth:].mean()), 2, sign=True),
                percent(_mean(series["conflict"][name])),
                percent(_mean(series["below_target"][name])),
                number(float(target[-1]) if len(target) else None, 2, sign=True),
                number(_mean(series["gain"][name]), 2),
            ]
        )
    head = ["Pair", "cosine, first tenth", "last tenth", "in conflict", "changed", "last target", "amplification"]
    return Table(head, body, "By pair of meta labels", frozenset(range(1, 7)))


def _where(details: Mapping[str, Any]) -> list[Block]:
    """Conflict by tensor as a map and by level as a table."""
    tensors = details.get("tensors", {})
    if not tensors:
        return [Text("Where in the encoder the gradients conflict was not recorded.", "missing")]
    names, pairs, shares = conflict_shares({name: tensors[name] for name in sorted(tensors, key=_depth)})
    granularity = {"layer": "layer", "whole": "encoder"}.get(str(details.get("granularity")), "parameter tensor")
    caption = f"By {granularity}, from the input side down to the bottleneck; % of all steps of the run."
    picture: Picture = conflict_map(shares, [tensor_name(name) for name in names], pairs, caption=caption)
    levels = [tensor_name(name).partition(",")[0] for name in names]
    body = []
    for level in dict.fromkeys(levels):
        of_level = shares[[index for index, other in enumerate(levels) if other == level]]
        body.append([level, *(percent(_finite_mean(of_level[:, column])) for column in range(len(pairs)))])
    table = Table(["Level", *pairs], body, "Conflict rate by level of the encoder", frozenset(range(1, len(pairs) + 1)))
    return [Pictures([picture]), table]


def conflict_shares(tensors: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Names of tensors, names of pairs, and (tensors, pairs) share of steps in conflict, NaN where not compared.

    Args:
        tensors: ``tensors`` of ``details.json``: name → ``conflict/a|b`` → share.
    """
    prefix = "conflict/"
    keys = dict.fromkeys(key for row in tensors.values() for key in row if key.startswith(prefix))
    terms = dict.fromkeys(term for key in keys for term in key.removeprefix(prefix).split("|"))
    pairs = [(a, b) for a, b in combinations(terms, 2) if f"{prefix}{a}|{b}" in keys or f"{prefix}{b}|{a}" in keys]
    shares = np.full((len(tensors), len(pairs)), np.nan)
    for row, values in enumerate(tensors.values()):
        for column, (a, b) in enumerate(pairs):
            both = [values[key] for key in (f"{prefix}{a}|{b}", f"{prefix}{b}|{a}") if key in values]
            if both:
                shares[row, column] = sum(both) / len(both)
    return list(tensors), [_pair(a, b) for a, b in pairs], shares


def tensor_name(name: str) -> str:
    """``encoder.blocks.0.conv1.weight`` as ``level 1, conv 1``; other names are kept."""
    if (match := _LAYER.fullmatch(name)) is None:
        return name
    level, kind, number, part = match.groups()
    role = {"weight": " scale", "bias": " shift"}.get(part, "") if kind == "norm" else ""
    return f"level {int(level) + 1}, {kind} {number}{role}"


def _depth(name: str) -> tuple[int, int, str, bool, str]:
    """Order of tensors from the input side on: level, then place in the level."""
    if (match := _LAYER.fullmatch(name)) is None:
        return -1, 0, "", False, name
    level, kind, number, part = match.groups()
    return int(level), int(number), kind, part == "bias", name


def _pair(a: str, b: str) -> str:
    return f"{a} · {b}"


def _mean(line: Curve) -> float | None:
    return None if line.empty else float(line.values.mean())


def _finite_mean(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else None
