"""What ``prepare`` would make of a data set, and every fault at once; nothing is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.catalog import Catalog
from fewlabel.data.class_faults import class_faults
from fewlabel.data.dataset_plan import SCAN_SETTINGS, ScanPlan, plan_scans, sized
from fewlabel.data.duplicates import equal_scans
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.data.io.mask_colours import with_one_colour_fault
from fewlabel.data.label_values import LabelMap, label_map
from fewlabel.data.meta_labels import case_codes
from fewlabel.data.mixed_columns import mixed_columns
from fewlabel.data.pixel_grid_plan import PLAN_SETTINGS, make_plan
from fewlabel.data.poses_before_preparation import sampled_poses
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_inspection import CaseFacts, cores, inspect
from fewlabel.protocol.splits import make_split
from fewlabel.readers.base import collect_catalog
from fewlabel.stages.prepare.check_report_meta_labels import column_rows, label_advice, meta_label_rows
from fewlabel.stages.prepare.check_report_rows import Row, catalog_rows, grid_rows, label_rows, plan_rows, split_rows
from fewlabel.stages.prepare.settings import PrepareSettings

MOST_ODD = 10


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


def check(settings: PrepareSettings) -> CheckReport:
    """Look at a data set: headers of all images, all masks, and the metadata.

    Intensities are read of at most 40 subjects outside of the test part, to say how scans differ in the plane, of five
    scans to recognise CT, and of one slice of scans of equal shape, to tell whether two are the same. Gzip files are
    read through once all the same, to hold them against their checksums.

    Args:
        settings: Settings of ``prepare``; ``out`` is not looked at.

    Returns:
        The report. Broken rules of the data are in its ``faults``, not raised.

    Raises:
        SettingsError: If the reader or the split is unknown.
    """
    workers = settings.workers or cores()
    try:
        choice, catalog = collect_catalog(settings.data, settings.reader, settings.subject_names, settings.colours)
    except DataError as error:
        return CheckReport(
            rows=(("", error.message),), faults=error.faults or (Fault(error.message, str(settings.data)),)
        )
    if not catalog.cases:
        return CheckReport(tuple(catalog_rows(choice, catalog)), catalog.faults, catalog=catalog)
    collected_warnings(clear=True)
    seen = look_at(settings, catalog, workers)
    faults = [*catalog.faults, *seen.faults]
    rows = [*catalog_rows(choice, catalog), *grid_rows(seen.facts), *label_rows(seen.labels, seen.facts)]
    rows.extend(("note", text) for text in (*catalog.notes, *mixed_columns(catalog), *seen.notes))
    rows.extend(column_rows(catalog))
    proposed: dict[str, Any] | None = None
    plan: Plan | None = None
    try:
        proposed = split_of(settings, catalog)
    except DataError as error:
        faults.extend(error.faults)
    # A scan with a fault may have a grid of nonsense.
    sound = [fact for fact in seen.facts if fact.geometry is not None and not fact.faults]
    if proposed is not None:
        rows.extend(split_rows(proposed))
        planned: ScanPlan | None = None
        try:
            planned = scan_plan_of(settings, catalog, sound, seen.labels, proposed, workers) if sound else None
        except DataError as error:
            faults.extend(error.faults)
        if planned is not None:
            plan = planned.plan
            rows.extend(plan_rows(plan, sound, seen.labels, proposed, settings))
            readable = replace(catalog, cases=tuple(fact.case for fact in sound))
            rows.extend(meta_label_rows(*label_advice(readable, sound, plan, proposed)))
            rows.extend(("note", text) for text in planned.notes)
            poses = sampled_poses(sound, proposed, plan, workers)
            if poses.scans:
                rows.append(("in the plane", poses.sentence("mm" if sized(sound) else "pixels")))
    odd = [*case_codes(catalog)[2], *(f"{fact.case.id}: {text}" for fact in seen.facts for text in fact.odd)]
    odd.extend(f"{len(paths)} files: {text}" for text, paths in collected_warnings(clear=True).items())
    return CheckReport(tuple(rows), tuple(faults), tuple(odd), catalog, seen.facts, seen.labels, proposed, plan)


@dataclass(frozen=True)
class Look:
    """What headers and masks of a data set say.

    Attributes:
        facts: Of each scan.
        labels: Classes.
        faults: What is wrong with files, masks and classes.
        notes: What was assumed, one sentence each.
    """

    facts: tuple[CaseFacts, ...]
    labels: LabelMap
    faults: tuple[Fault, ...]
    notes: tuple[str, ...]


def look_at(settings: PrepareSettings, catalog: Catalog, workers: int) -> Look:
    """Look at headers and masks, and whether scans are there twice; faults are kept, not raised."""
    facts = inspect(catalog, workers, settings.voxel_size, accept_origin=settings.accept_origin)
    labels, wrong_values = label_map(catalog, facts, settings.labels)
    # A scan with a fault may have a grid of nonsense, which is not to be read.
    sound = [fact for fact in facts if not fact.faults]
    twice, same = equal_scans(catalog, sound, workers, settings.same_scans)
    of_scans = with_one_colour_fault([fault for fact in facts for fault in fact.faults], str(catalog.root))
    faults = (*of_scans, *wrong_values, *class_faults(labels, facts, str(catalog.root)), *twice)
    return Look(tuple(facts), labels, faults, tuple(same))


def split_of(settings: PrepareSettings, catalog: Catalog) -> dict[str, Any]:
    """The split that the settings ask for, see :func:`fewlabel.protocol.splits.make_split`."""
    return make_split(
        catalog,
        settings.split,
        settings.seed,
        test_fraction=settings.test_fraction,
        validation_fraction=settings.validation_fraction,
        pretrain_on_test_scans=settings.pretrain_on_test_scans,
    )


def plan_of(
    settings: PrepareSettings,
    catalog: Catalog,
    facts: Sequence[CaseFacts],
    labels: LabelMap,
    split: Mapping[str, Any],
) -> Plan:
    """The pixel grid that the settings ask for, see :func:`fewlabel.data.pixel_grid_plan.make_plan`."""
    return make_plan(catalog, facts, labels, split, **{key: getattr(settings, key) for key in PLAN_SETTINGS})


def scan_plan_of(
    settings: PrepareSettings,
    catalog: Catalog,
    facts: Sequence[CaseFacts],
    labels: LabelMap,
    split: Mapping[str, Any],
    workers: int,
) -> ScanPlan:
    """What is done to scans by these settings, see :func:`fewlabel.data.dataset_plan.plan_scans`."""
    return plan_scans(
        catalog,
        facts,
        labels,
        split,
        scan_settings={key: getattr(settings, key) for key in SCAN_SETTINGS},
        plan_settings={key: getattr(settings, key) for key in PLAN_SETTINGS},
        workers=workers,
    )
