"""``check``: what was understood of a data set, and every fault at once; nothing is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.catalog import Catalog, Column
from fewlabel.data.checking import CaseFacts, cores, inspect
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.data.label_values import LabelMap, label_map
from fewlabel.data.meta_labels import case_codes
from fewlabel.data.planning import grid_of
from fewlabel.data.pose_sample import sampled_poses
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_plan import plan_scans, sized
from fewlabel.protocol.splits import PARTS, make_split
from fewlabel.readers.base import Choice, collect_catalog

Row = tuple[str, str]
MOST_ODD = 10
#: Settings of ``prepare`` that also shape the split, and the grid, that ``check`` proposes.
SPLIT_SETTINGS = ("test_fraction", "validation_fraction", "pretrain_on_test_scans")


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
    scan_settings: Mapping[str, Any] | None = None,
) -> CheckReport:
    """Look at a data set: headers of all images, all masks, and the metadata.

    Intensities are read of at most 40 subjects outside of the test part, to say how scans differ in the plane, and of
    five scans to tell CT. Gzip
    files are read through once all the same, to hold them against their checksums.

    Args:
        data: Folder or table file.
        reader: As for ``prepare``.
        workers: Threads; 0 for one per core.
        split: As for ``prepare``.
        seed: Of a random split.
        split_settings: Further arguments of :func:`fewlabel.protocol.splits.make_split`.
        plan_settings: Further arguments of :func:`fewlabel.data.planning.make_plan`.
        scan_settings: Values of :data:`fewlabel.data.scan_plan.SCAN_SETTINGS`.

    Returns:
        The report. Broken rules of the data are in its ``faults``, not raised.

    Raises:
        SettingsError: If the reader or the split is unknown.
    """
    try:
        choice, catalog = collect_catalog(data, reader)
    except DataError as error:
        return CheckReport(rows=(("", error.message),), faults=error.faults or (Fault(error.message, str(data)),))
    if not catalog.cases:
        return CheckReport(tuple(_catalog_rows(choice, catalog)), catalog.faults, catalog=catalog)
    collected_warnings(clear=True)
    asked = dict(scan_settings or {})
    facts = inspect(catalog, workers or cores(), asked.get("voxel_size"))
    labels, faults = label_map(catalog, facts, asked.get("labels"))
    faults = [*catalog.faults, *(fault for fact in facts for fault in fact.faults), *faults]
    rows = [*_catalog_rows(choice, catalog), *_grid_rows(facts), *_label_rows(labels, facts)]
    rows.extend(("note", text) for text in catalog.notes)
    rows.extend((f"metadata {column.name}", _column(column, catalog)) for column in catalog.columns)
    proposed: dict[str, Any] | None = None
    plan: Plan | None = None
    try:
        proposed = make_split(catalog, split, seed, **(split_settings or {}))
    except DataError as error:
        faults.extend(error.faults)
    if proposed is not None:
        rows.extend(_split_rows(proposed))
        if any(fact.geometry is not None for fact in facts):
            shaping = {"plan_settings": plan_settings or {}, "scan_settings": asked}
            planned = plan_scans(catalog, facts, labels, proposed, **shaping, workers=workers or cores())
            plan = planned.plan
            rows.extend(_plan_rows(plan, facts, labels, proposed, plan_settings or {}))
            rows.extend(("note", text) for text in planned.notes)
            poses = sampled_poses(facts, proposed, plan, workers or cores())
            if poses.scans:
                rows.append(("in the plane", poses.sentence("mm" if sized(facts) else "pixels")))
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
    sized = [geometry.spacing[::-1] for geometry in known if geometry.spacing_known]
    spacings = np.array(sized)
    sizes = " x ".join(_range(spacings[:, axis], ".3g") for axis in range(3)) if sized else "unknown"
    more = f"; unknown of {len(known) - len(sized)} scans" if 0 < len(sized) < len(known) else ""
    return [
        ("voxels (x, y, z)", " x ".join(_range(shapes[:, axis], ".0f") for axis in range(3))),
        ("voxel size in mm", f"{sizes}{more}"),
    ]


def _plan_rows(
    plan: Plan, facts: Sequence[CaseFacts], labels: LabelMap, split: Mapping[str, Any], asked: Mapping[str, Any]
) -> list[Row]:
    """The grid, what it shows of a scan, and why."""
    (height, width), (down, across) = plan.size, plan.spacing
    given = {name: asked[name] for name in ("spacing", "size", "slice_axis") if name in asked}
    grid = grid_of(facts, labels, split, **given)
    unit = "mm" if sized(facts) else "pixels"
    shown = f"{height * down:.0f}x{width * across:.0f} {unit}"
    of = "mm" if sized(facts) else "of the files' pixels"
    rows = [("would prepare", f"{height}x{width} pixels of {down:.4g}x{across:.4g} {of} a slice")]
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
        raws = [value, *(raw for raw, other in labels.aliases.items() if other == value)]
        present = sum(not found.keys().isdisjoint(raws) for found in masks)
        written = f"label {' or '.join(map(str, raws))}"
        called = written if name == f"label {value}" else f"{name}, {written}"
        text = f"{called}: {labels.voxels[index]} voxels in {present} of {len(masks)} masks"
        rows.append((f"class {index}", text))
    if labels.ignore is not None:
        rows.append(("ignored", f"label {labels.ignore}"))
    return rows


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


def _split_rows(split: Mapping[str, Any]) -> list[Row]:
    parts = ", ".join(f"{len(split['parts'][part])} {part}" for part in PARTS)
    notes = [("", str(note)) for note in split.get("notes", ())]
    return [("split", f"{split['name']}: subjects {parts}"), *notes]
