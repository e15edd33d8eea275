"""Chooses the pixel grid of a data set from the scans that may decide: none of the test part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewlabel.data.catalog import Catalog
from fewlabel.data.grid_extent_and_spacing import Grid, choose_grid, lay
from fewlabel.data.label_values import LabelMap
from fewlabel.data.meta_labels import case_codes, quantile_edges
from fewlabel.data.orient import NEAREST, orient_to
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_inspection import CaseFacts
from fewlabel.data.slice_plane import plane_notes, reference_frame

#: Settings of ``prepare`` that shape the plan: arguments of :func:`make_plan`.
PLAN_SETTINGS = ("spacing", "size", "low", "high", "slice_axis", "position_parts", "meta_bins")


def deciding(facts: Sequence[CaseFacts], split: Mapping[str, Any]) -> list[CaseFacts]:
    """All readable scans outside the test part; all of them where that would leave none."""
    test = set(split["parts"]["test"])
    readable = [fact for fact in facts if fact.geometry is not None]
    return [fact for fact in readable if fact.case.subject not in test and fact.case.part != "test"] or readable


def cut_by(slice_axis: str) -> str:
    """What a new plan records of the setting ``slice_axis``: ``auto`` becomes one plane for all scans."""
    return NEAREST if slice_axis == "auto" else slice_axis


def grid_of(
    facts: Sequence[CaseFacts],
    labels: LabelMap,
    split: Mapping[str, Any],
    *,
    spacing: Sequence[float] | None = None,
    size: Sequence[int] | None = None,
    slice_axis: str = "auto",
) -> Grid:
    """The pixel grid of a data set, see :func:`fewlabel.data.grid_extent_and_spacing.choose_grid`.

    Args:
        facts: Of each case; at least one scan is readable.
        labels: Classes.
        split: Whose test part has no say.
        spacing: (row, column) in mm; None to choose.
        size: (height, width) in pixels; None to choose.
        slice_axis: File axis across the slices, or ``auto`` for one plane chosen for all scans.
    """
    deciders = deciding(facts, split)
    frame = reference_frame([fact.geometry for fact in deciders if fact.geometry is not None], slice_axis)
    return choose_grid(lay(deciders, frame, labels, cut_by(slice_axis)), spacing, size)


def make_plan(
    catalog: Catalog,
    facts: Sequence[CaseFacts],
    labels: LabelMap,
    split: Mapping[str, Any],
    *,
    spacing: Sequence[float] | None = None,
    size: Sequence[int] | None = None,
    low: float = 1.0,
    high: float = 99.0,
    slice_axis: str = "auto",
    position_parts: int = 4,
    meta_bins: int = 0,
) -> Plan:
    """The plan of a data set.

    Args:
        catalog: The data set.
        facts: Of each case.
        labels: Classes.
        split: Whose test part has no say.
        spacing: (row, column) in mm; None to choose, see :func:`grid_of`.
        size: (height, width) in pixels; None to choose.
        low: Percentile of a volume that becomes 0.
        high: Percentile of a volume that becomes 1.
        slice_axis: As in :func:`grid_of`.
        position_parts: Parts along the slice axis.
        meta_bins: Classes of each continuous metadata column; 0 for none.
    """
    deciders = deciding(facts, split)
    geometries = [fact.geometry for fact in deciders if fact.geometry is not None]
    frame = reference_frame(geometries, slice_axis)
    grid = grid_of(facts, labels, split, spacing=spacing, size=size, slice_axis=slice_axis)
    edges = quantile_edges(catalog.columns, [fact.case for fact in deciders], meta_bins)
    _, columns, _ = case_codes(catalog, edges)
    return Plan(
        spacing=grid.spacing,
        size=grid.size,
        channels=tuple(catalog.channels),
        low=low,
        high=high,
        slice_axis=cut_by(slice_axis),
        frame=tuple(tuple(round(float(value), 9) + 0.0 for value in row) for row in frame),
        label_values=labels.values,
        ignore_value=labels.ignore,
        label_names=labels.names,
        label_aliases=dict(labels.aliases),
        columns=tuple(columns),
        position_parts=position_parts,
        dataset=catalog.name,
        reader=catalog.reader,
    )


def depths_of(facts: Sequence[CaseFacts], plan: Plan) -> list[int]:
    """Slices of each scan, in catalog order; scans that cannot be read are left out."""
    frame = np.asarray(plan.frame)
    return [
        fact.geometry.shape[orient_to(fact.geometry, frame, plan.slice_axis).axes[0]]
        for fact in facts
        if fact.geometry is not None
    ]


def oddly_cut(facts: Sequence[CaseFacts], plan: Plan) -> list[str]:
    """A sentence on the scans that the plan cuts otherwise than across their thickest axis, if there are any."""
    named = {fact.case.id: fact.geometry for fact in facts if fact.geometry is not None}
    return plane_notes(named, np.asarray(plan.frame), plan.slice_axis)
