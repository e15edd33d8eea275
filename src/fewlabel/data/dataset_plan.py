"""What is done to the scans of a data set, decided from all of them: the plan, slices left out, and what to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.catalog import Catalog
from fewlabel.data.ct_window import find_windows
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.label_values import LabelMap
from fewlabel.data.orient import orient_to
from fewlabel.data.pixel_grid_plan import deciding, make_plan, oddly_cut
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_inspection import ASSUMED, CaseFacts
from fewlabel.data.unannotated_slices import unannotated

#: Settings of ``prepare`` that say how scans and masks are to be read.
SCAN_SETTINGS = ("labels", "empty_slices", "voxel_size", "window", "modality")


@dataclass(frozen=True)
class ScanPlan:
    """What is done to the scans of a data set.

    Attributes:
        plan: The same for all.
        unannotated: Case → slices of its mask, along the file axis across slices, that are left out.
        notes: What was assumed, one sentence each.
    """

    plan: Plan
    unannotated: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def plan_scans(
    catalog: Catalog,
    facts: Sequence[CaseFacts],
    labels: LabelMap,
    split: Mapping[str, Any],
    *,
    scan_settings: Mapping[str, Any],
    plan_settings: Mapping[str, Any],
    workers: int,
) -> ScanPlan:
    """Decide what is done to the scans of a data set; intensities of a few are read.

    Args:
        catalog: The data set.
        facts: Of each scan, at least one of which is readable.
        labels: Classes.
        split: Whose test part has no say.
        scan_settings: Values of :data:`SCAN_SETTINGS`; what is not given is left to the data.
        plan_settings: Further arguments of :func:`~fewlabel.data.pixel_grid_plan.make_plan`.
        workers: Threads.

    Raises:
        DataError: If pictures without a mask make up a scan that is not cut into its pictures.
    """
    plan = make_plan(catalog, facts, labels, split, **plan_settings)
    windows = find_windows(
        deciding(facts, split),
        labels,
        catalog.channels,
        window=scan_settings.get("window"),
        modality=scan_settings.get("modality", "auto"),
        low=plan.low,
        high=plan.high,
        workers=workers,
    )
    voxel_size = scan_settings.get("voxel_size")
    z, y, x = ASSUMED if voxel_size is None else map(float, voxel_size)
    plan = replace(plan, windows=windows.windows, voxel_size=(z, y, x), voxel_size_given=voxel_size is not None)
    frame = np.asarray(plan.frame)
    slices = {
        fact.case.id: fact.annotated[orient_to(fact.geometry, frame, plan.slice_axis).axes[0]]
        for fact in facts
        if fact.geometry is not None and fact.annotated
    }
    mode = scan_settings.get("empty_slices", "auto")
    if mode != "background":
        _refuse_cut_pictures(facts, plan)
    left_out, notes = unannotated(slices, mode)
    told = (*labels.notes, *oddly_cut(facts, plan), *windows.notes, *notes, *size_notes(facts))
    return ScanPlan(plan, left_out, told)


def _refuse_cut_pictures(facts: Sequence[CaseFacts], plan: Plan) -> None:
    """Pictures without a mask can be left out only where they are what is learnt from."""
    frame = np.asarray(plan.frame)
    faults = [
        Fault(
            "some of its pictures have no mask, and slices are cut across them",
            f"case {fact.case.id}, {shown(fact.case.images[0])}",
            "Give prepare.slice_axis=z, so that slices are the pictures, or prepare.empty_slices=background",
        )
        for fact in facts
        if fact.geometry is not None
        and fact.annotated
        and fact.annotated[0].without
        and orient_to(fact.geometry, frame, plan.slice_axis).axes[0] != 0
    ]
    if faults:
        raise DataError("These scans cannot be used:", faults)


def sized(facts: Sequence[CaseFacts]) -> bool:
    """Whether it is known of every scan how large its voxels are."""
    return all(fact.geometry.spacing_known for fact in facts if fact.geometry is not None)


def size_notes(facts: Sequence[CaseFacts]) -> list[str]:
    """A sentence on scans whose files do not say how large voxels are; none where all do."""
    known = [fact.geometry.spacing_known for fact in facts if fact.geometry is not None]
    if all(known):
        return []
    which = "files do" if not any(known) else f"the files of {known.count(False)} of {len(known)} scans do"
    return [
        f"{which} not say how large voxels are: 1 mm is assumed, and distances and volumes are reported in voxels; "
        "voxel_size=[SLICE,ROW,COLUMN] gives it in mm"
    ]
