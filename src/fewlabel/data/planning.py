"""Chooses the pixel grid of a data set from the scans that may decide: none of the test part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewlabel.data.catalog import Catalog
from fewlabel.data.checking import CaseFacts, LabelMap
from fewlabel.data.meta_labels import case_codes
from fewlabel.data.orient import orient_to, reference_frame
from fewlabel.data.preprocess import Plan
from fewlabel.data.resample import resampled_pixels
from fewlabel.data.volume import Geometry

#: Network sizes are multiples of this: four halvings.
SIZE_STEP = 16
LARGEST_SIZE = 256


def deciding(facts: Sequence[CaseFacts], split: Mapping[str, Any]) -> list[Geometry]:
    """Geometries of all scans outside the test part; all of them where that would leave none."""
    test = set(split["parts"]["test"])
    readable = [fact for fact in facts if fact.geometry is not None]
    chosen = [fact for fact in readable if fact.case.subject not in test and fact.case.part != "test"] or readable
    return [fact.geometry for fact in chosen if fact.geometry is not None]


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
) -> Plan:
    """The plan of a data set.

    Args:
        catalog: The data set.
        facts: Of each case.
        labels: Classes.
        split: Whose test part has no say.
        spacing: (row, column) in mm; None for the median pixel size of the deciding scans.
        size: (height, width) in pixels; None for the multiple of 16 that covers the median extent, at most 256.
        low: Percentile of a volume that becomes 0.
        high: Percentile of a volume that becomes 1.
        slice_axis: As in :func:`fewlabel.data.orient.slice_axis`.
        position_parts: Parts along the slice axis.
    """
    geometries = deciding(facts, split)
    frame = reference_frame(geometries, slice_axis)
    axes = [orient_to(geometry, frame, slice_axis).axes for geometry in geometries]
    pixel = np.array([[g.spacing[a[1]], g.spacing[a[2]]] for g, a in zip(geometries, axes, strict=True)])
    extent = np.array([[g.shape[a[1]], g.shape[a[2]]] for g, a in zip(geometries, axes, strict=True)])
    median = np.median(pixel, axis=0)
    target = (float(spacing[0]), float(spacing[1])) if spacing else (_round(median[0]), _round(median[1]))
    if size is None:
        covers = [
            float(
                np.median(
                    [resampled_pixels(int(n), p, target[i]) for n, p in zip(extent[:, i], pixel[:, i], strict=True)]
                )
            )
            for i in range(2)
        ]
        height, width = (min(LARGEST_SIZE, SIZE_STEP * math.ceil(cover / SIZE_STEP)) for cover in covers)
    else:
        height, width = size
    _, columns, _ = case_codes(catalog)
    return Plan(
        spacing=target,
        size=(int(height), int(width)),
        channels=tuple(catalog.channels),
        low=low,
        high=high,
        slice_axis=slice_axis,
        frame=tuple(tuple(round(float(value), 9) + 0.0 for value in row) for row in frame),
        label_values=labels.values,
        ignore_value=labels.ignore,
        label_names=labels.names,
        columns=tuple(columns),
        position_parts=position_parts,
        dataset=catalog.name,
        reader=catalog.reader,
    )


def _round(value: float) -> float:
    # Six digits hide float32 headers; what is stored is what is used.
    return float(f"{value:.6g}")
