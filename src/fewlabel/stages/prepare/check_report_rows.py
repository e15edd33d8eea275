"""What ``check`` shows of scans, classes, grid and split: topics, and a line on each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fewlabel.data.catalog import Catalog
from fewlabel.data.dataset_plan import sized
from fewlabel.data.label_values import LabelMap
from fewlabel.data.pixel_grid_plan import grid_of
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_inspection import CaseFacts
from fewlabel.protocol.splits import PARTS
from fewlabel.readers.base import Choice
from fewlabel.stages.prepare.settings import PrepareSettings

Row = tuple[str, str]


def catalog_rows(choice: Choice, catalog: Catalog) -> list[Row]:
    """The reader, scans, subjects, labels and channels."""
    labelled = sum(case.label is not None for case in catalog.cases)
    rows = [
        ("reader", f"{choice.name}, score {choice.match.score:.2f}: {'; '.join(choice.match.reasons)}"),
        ("scans", f"{len(catalog.cases)} of {len(catalog.subjects)} subjects"),
        ("with a label", f"{labelled} scans of {len(catalog.labelled_subjects)} subjects"),
        ("channels", ", ".join(catalog.channels)),
    ]
    for part, purpose in (("test", "testing"), ("validation", "validation")):
        own = sum(case.part == part for case in catalog.cases)
        if own:
            rows.append((f"kept for {purpose}", f"{own} scans, by the data set itself"))
    return rows


def grid_rows(facts: Sequence[CaseFacts]) -> list[Row]:
    """Sizes of the scans and of their voxels, as far as headers tell."""
    known = [fact.geometry for fact in facts if fact.geometry is not None]
    if not known:
        return []
    shapes = np.array([geometry.shape[::-1] for geometry in known])
    sized = [geometry.spacing[::-1] for geometry in known if geometry.spacing_known]
    spacings = np.array(sized)
    sizes = " x ".join(_range(spacings[:, axis], ".3g") for axis in range(3)) if sized else "unknown"
    more = f"; unknown of {len(known) - len(sized)} scans" if 0 < len(sized) < len(known) else ""
    return [
        ("voxels (x, y, z)", " x ".join(_range(shapes[:, axis], ".0f") for axis in range(3))),
        ("voxel size in mm", f"{sizes}{more}"),
    ]


def plan_rows(
    plan: Plan, facts: Sequence[CaseFacts], labels: LabelMap, split: Mapping[str, Any], settings: PrepareSettings
) -> list[Row]:
    """The grid, what it shows of a scan, and why."""
    (height, width), (down, across) = plan.size, plan.spacing
    grid = grid_of(facts, labels, split, spacing=settings.spacing, size=settings.size, slice_axis=settings.slice_axis)
    unit = "mm" if sized(facts) else "pixels"
    shown = f"{height * down:.0f}x{width * across:.0f} {unit}"
    of = "mm" if sized(facts) else "of the files' pixels"
    rows = [("would prepare", f"{height}x{width} pixels of {down:.4g}x{across:.4g} {of} a slice")]
    return [*rows, ("field of view", f"{shown}: {grid.reason}" if grid.reason else shown)]


def _range(values: Any, form: str) -> str:
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{low:{form}}" if low == high else f"{low:{form}}-{high:{form}} (median {middle:{form}})"


def label_rows(labels: LabelMap, facts: Sequence[CaseFacts]) -> list[Row]:
    """The classes, and in how many masks each of them is."""
    masks = [fact.labels for fact in facts if fact.labels is not None]
    if not masks:
        given = any(fact.case.label is not None for fact in facts)
        return [("classes", "not known: no mask can be used" if given else "none: no scan has a label")]
    rows = []
    for index, (value, name) in enumerate(zip(labels.values, labels.names, strict=True)):
        raws = [value, *(raw for raw, other in labels.aliases.items() if other == value)]
        present = sum(not values.keys().isdisjoint(raws) for values in masks)
        written = f"label {' or '.join(map(str, raws))}"
        called = written if name == f"label {value}" else f"{name}, {written}"
        text = f"{called}: {labels.voxels[index]} voxels in {present} of {len(masks)} masks"
        rows.append((f"class {index}", text))
    if labels.ignore is not None:
        rows.append(("ignored", f"label {labels.ignore}"))
    return rows


def split_rows(split: Mapping[str, Any]) -> list[Row]:
    """The parts of the split, and notes on it."""
    parts = ", ".join(f"{len(split['parts'][part])} {part}" for part in PARTS)
    notes = [("", str(note)) for note in split.get("notes", ())]
    return [("split", f"{split['name']}: subjects {parts}"), *notes]
