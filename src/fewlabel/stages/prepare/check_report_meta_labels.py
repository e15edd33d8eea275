"""Rows of ``check`` on metadata: what each column holds, and which meta labels are worth using."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fewlabel.data.catalog import Catalog, Column
from fewlabel.data.meta_advice import LabelAdvice, advise
from fewlabel.data.meta_labels import edges_of, quantile_edges, slice_table
from fewlabel.data.pixel_grid_plan import deciding, depths_of
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_inspection import CaseFacts
from fewlabel.stages.prepare.check_report_rows import Row

#: Classes that are proposed for columns of numbers.
PROPOSED_BINS = 4
_MOST_SHARED = 4


def column_rows(catalog: Catalog) -> list[Row]:
    """What each metadata column holds."""
    return [(f"metadata {column.name}", _column(column, catalog)) for column in catalog.columns]


def label_advice(
    catalog: Catalog, facts: Sequence[CaseFacts], plan: Plan, split: Mapping[str, Any]
) -> tuple[list[LabelAdvice], dict[str, tuple[float, ...]]]:
    """What each meta label tells, those among them that ``meta_bins`` would make; and the edges of those.

    Args:
        catalog: The data set.
        facts: Of its scans.
        plan: As it would be prepared.
        split: Whose test part has no say in edges.
    """
    readable = replace(catalog, cases=tuple(fact.case for fact in facts if fact.geometry is not None))
    given = edges_of(plan.columns)
    deciders = [fact.case for fact in deciding(facts, split)]
    proposed = {} if given else quantile_edges(catalog.columns, deciders, PROPOSED_BINS)
    table, classes = slice_table(readable, depths_of(facts, plan), plan.position_parts, given or proposed)
    _, cases = np.unique(table["case"], return_inverse=True)
    _, subjects = np.unique(table["subject"], return_inverse=True)
    return advise({name: table[f"meta_{name}"] for name in classes}, cases, subjects), proposed


def meta_label_rows(advice: Sequence[LabelAdvice], proposed: Mapping[str, Sequence[float]]) -> list[Row]:
    """A row for each meta label, and one with those to use.

    Args:
        advice: As :func:`label_advice` has it.
        proposed: Labels that only ``meta_bins`` would make, and the edges of their classes.
    """
    rows = [(f"meta label {one.name}", _advice(one, proposed)) for one in advice]
    use = [one.name for one in advice if not one.objection and one.name not in proposed]
    more = [one.name for one in advice if not one.objection and one.name in proposed]
    word = shlex.quote(f"pretrain.method.labels=[{','.join(use)}]")
    text = f"{', '.join(use)}: {word}" if use else "none"
    if more:
        text += f"; {', '.join(more)} as well with prepare.meta_bins={PROPOSED_BINS}"
    return [*rows, ("meta labels to use", text)]


def _advice(one: LabelAdvice, proposed: Mapping[str, Sequence[float]]) -> str:
    texts = [f"{one.classes} {'class' if one.classes == 1 else 'classes'}, missing {one.missing:.0%}"]
    if one.name in proposed:
        edges = ", ".join(f"{edge:g}" for edge in proposed[one.name])
        texts = [f"with prepare.meta_bins={PROPOSED_BINS}: {texts[0]}, parted at {edges}"]
    ranked = sorted(one.shared.items(), key=lambda item: -item[1][1])
    told = [f"{name} {bits:.2f} bits ({share:.2f})" for name, (bits, share) in ranked if bits >= 0.005][:_MOST_SHARED]
    if told:
        texts.append(f"in common with {', '.join(told)}")
    if one.objection:
        texts.append(f"not advised: {one.objection}")
    elif one.hint:
        texts.append(one.hint)
    return "; ".join(texts)


def _column(column: Column, catalog: Catalog) -> str:
    values = [case.metadata.get(column.name) for case in catalog.cases]
    present = [value for value in values if value is not None]
    if column.kind == "continuous":
        numbers = [float(value) for value in present]
        content = f"{min(numbers):g}-{max(numbers):g}" if numbers else "no value"
    else:
        counts = Counter(map(str, present))
        shown = ", ".join(f"{value} ({count})" for value, count in sorted(counts.items())[:8])
        content = shown + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")
    missing = len(values) - len(present)
    return f"{column.kind}, {content}; missing in {missing} scans"
