"""``check``: what was understood of a data set, and every fault at once; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.catalog import Catalog
from fewlabel.data.checking import CaseFacts, LabelMap, cores, inspect, label_map
from fewlabel.data.duplicates import SameScans, equal_scans
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.data.label_faults import label_faults
from fewlabel.data.meta_labels import case_codes
from fewlabel.data.mixed_columns import mixed_columns
from fewlabel.data.planning import grid_of, make_plan
from fewlabel.data.pose_sample import sampled_poses
from fewlabel.data.preprocess import Plan
from fewlabel.data.subjects import Subjects
from fewlabel.protocol.splits import PARTS, make_split
from fewlabel.readers.base import Choice, collect_catalog
from fewlabel.stages._check_metadata import column_rows, label_advice, label_rows

Row = tuple[str, str]
MOST_ODD = 10
#: Settings of ``prepare`` that also shape the split, and the grid, that ``check`` proposes.
DATA_SETTINGS = ("subjects", "same_scans")
SPLIT_SETTINGS = ("test_fraction", "validation_fraction", "pretrain_on_test_scans")
PLAN_SETTINGS = ("spacing", "size", "low", "high", "slice_axis", "position_parts", "meta_bins")


@dataclass(frozen=True)
class CheckReport:
    """What ``check`` found.

    Attributes:
        rows: Topic and what was understood of it, ready to show.
        faults: Everything that would stop ``prepare``.
        odd: What is unusual but harmless.
        catalog: The data set; None if it could not be read.
        facts: Of each scan.
        labels: Classes found.
        split: The split ``prepare`` would make; None if it cannot.
        plan: The grid ``prepare`` would choose; None without a readable scan or a split.
    """

    rows: tuple[Row, ...] = ()
    faults: tuple[Fault, ...] = ()
    odd: tuple[str, ...] = ()
    catalog: Catalog | None = None
    facts: tuple[CaseFacts, ...] = ()
    labels: LabelMap | None = None
    split: Mapping[str, Any] | None = None
    plan: Plan | None = None

    @property
    def lines(self) -> tuple[str, ...]:
        """The rows, and the first ten odd facts, as lines of text."""
        rows = [f"{topic}: {text}" if topic else text for topic, text in self.rows]
        odd = [f"odd: {text}" for text in self.odd[:MOST_ODD]]
        more = [f"odd: {len(self.odd) - MOST_ODD} more such facts"] if len(self.odd) > MOST_ODD else []
        return (*rows, *odd, *more)


def check(
    data: Path,
    reader: str | Mapping[str, Any] = "auto",
    *,
    workers: int = 0,
    split: str = "auto",
    seed: int = 0,
    split_settings: Mapping[str, Any] | None = None,
    plan_settings: Mapping[str, Any] | None = None,
    subjects: Subjects = "auto",
    same_scans: SameScans = "refuse",
) -> CheckReport:
    """Look at a data set: headers of all images, all masks, and the metadata.

    Intensities are read of at most 40 subjects outside of the test part, to say how scans differ in the plane, and one
    slice of scans of equal shape, to tell whether two are the same. Gzip files are read through once all the same, to
    hold them against their checksums.

    Args:
        data: Folder or table file.
        reader: As for ``prepare``.
        workers: Threads; 0 for one per core.
        split: As for ``prepare``.
        seed: Of a random split.
        split_settings: Further arguments of :func:`fewlabel.protocol.splits.make_split`.
        plan_settings: Further arguments of :func:`fewlabel.data.planning.make_plan`.
        subjects: As for ``prepare``.
        same_scans: As for ``prepare``.

    Returns:
        The report. Broken rules of the data are in its ``faults``, not raised.

    Raises:
        SettingsError: If the reader or the split is unknown.
    """
    try:
        choice, catalog = collect_catalog(data, reader, subjects)
    except DataError as error:
        return CheckReport(rows=(("", error.message),), faults=error.faults or (Fault(error.message, str(data)),))
    if not catalog.cases:
        return CheckReport(tuple(_catalog_rows(choice, catalog)), catalog.faults, catalog=catalog)
    collected_warnings(clear=True)
    facts = inspect(catalog, workers or cores())
    labels, faults = label_map(catalog, facts)
    faults.extend(label_faults(labels, facts, str(catalog.root)))
    # A scan with a fault may have a grid of nonsense.
    sound = [fact for fact in facts if fact.geometry is not None and not fact.faults]
    among = replace(catalog, cases=tuple(fact.case for fact in sound))
    twice, same = equal_scans(among, sound, workers or cores(), same_scans)
    faults = [*catalog.faults, *(fault for fact in facts for fault in fact.faults), *faults, *twice]
    rows = [*_catalog_rows(choice, catalog), *_grid_rows(facts), *_label_rows(labels, facts)]
    rows.extend(("note", text) for text in (*catalog.notes, *mixed_columns(catalog), *same))
    rows.extend(column_rows(catalog))
    proposed: dict[str, Any] | None = None
    plan: Plan | None = None
    try:
        proposed = make_split(catalog, split, seed, **(split_settings or {}))
    except DataError as error:
        faults.extend(error.faults)
    if proposed is not None:
        rows.extend(_split_rows(proposed))
        if sound:
            plan = make_plan(among, sound, labels, proposed, **(plan_settings or {}))
            rows.extend(_plan_rows(plan, sound, labels, proposed, plan_settings or {}))
            rows.extend(label_rows(*label_advice(among, sound, plan, proposed)))
            poses = sampled_poses(facts, proposed, plan, workers or cores())
            if poses.scans:
                rows.append(("in the plane", poses.sentence()))
    odd = [*case_codes(catalog)[2], *(f"{fact.case.id}: {text}" for fact in facts for text in fact.odd)]
    odd.extend(f"{len(paths)} files: {text}" for text, paths in collected_warnings(clear=True).items())
    return CheckReport(tuple(rows), tuple(faults), tuple(odd), catalog, tuple(facts), labels, proposed, plan)


def _catalog_rows(choice: Choice, catalog: Catalog) -> list[Row]:
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


def _grid_rows(facts: Sequence[CaseFacts]) -> list[Row]:
    known = [fact.geometry for fact in facts if fact.geometry is not None]
    if not known:
        return []
    shapes = np.array([geometry.shape[::-1] for geometry in known])
    spacings = np.array([geometry.spacing[::-1] for geometry in known])
    return [
        ("voxels (x, y, z)", " x ".join(_range(shapes[:, axis], ".0f") for axis in range(3))),
        ("voxel size in mm", " x ".join(_range(spacings[:, axis], ".3g") for axis in range(3))),
    ]


def _plan_rows(
    plan: Plan, facts: Sequence[CaseFacts], labels: LabelMap, split: Mapping[str, Any], asked: Mapping[str, Any]
) -> list[Row]:
    """The grid, what it shows of a scan, and why."""
    (height, width), (down, across) = plan.size, plan.spacing
    given = {name: asked[name] for name in ("spacing", "size", "slice_axis") if name in asked}
    grid = grid_of(facts, labels, split, **given)
    shown = f"{height * down:.0f}x{width * across:.0f} mm"
    rows = [("would prepare", f"{height}x{width} pixels of {down:.4g}x{across:.4g} mm a slice")]
    return [*rows, ("field of view", f"{shown}: {grid.reason}" if grid.reason else shown)]


def _range(values: Any, form: str) -> str:
    low, middle, high = np.min(values), np.median(values), np.max(values)
    return f"{low:{form}}" if low == high else f"{low:{form}}-{high:{form}} (median {middle:{form}})"


def _label_rows(labels: LabelMap, facts: Sequence[CaseFacts]) -> list[Row]:
    masks = [fact.labels for fact in facts if fact.labels is not None]
    if not masks:
        return [("classes", "none: no scan has a label")]
    rows = []
    for index, (value, name) in enumerate(zip(labels.values, labels.names, strict=True)):
        present = sum(value in found for found in masks)
        called = name if name == f"label {value}" else f"{name}, label {value}"
        text = f"{called}: {labels.voxels[index]} voxels in {present} of {len(masks)} masks"
        rows.append((f"class {index}", text))
    if labels.ignore is not None:
        rows.append(("ignored", f"label {labels.ignore}"))
    return rows


def _split_rows(split: Mapping[str, Any]) -> list[Row]:
    parts = ", ".join(f"{len(split['parts'][part])} {part}" for part in PARTS)
    notes = [("", str(note)) for note in split.get("notes", ())]
    return [("split", f"{split['name']}: subjects {parts}"), *notes]
