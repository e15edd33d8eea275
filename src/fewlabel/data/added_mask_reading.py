"""Masks of scans that are prepared already, read on the scans' own grids; of a part of them nothing may be known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.io.volume_reading import mask_faults, read_geometry, read_mask
from fewlabel.data.label_values import IGNORE, Meanings
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import PreparedCase
from fewlabel.data.unannotated_slices import EmptySlices, annotated_slices, unannotated
from fewlabel.data.voxel_counts import value_counts

#: What marks voxels of a mask that nobody looked at, unless it is a class.
NOT_LOOKED_AT = 255
_MOST_NAMED = 5


@dataclass(frozen=True)
class AnnotationMask:
    """One mask.

    Attributes:
        case: Its scan.
        source: Its file.
        digest: SHA-256 of the file.
        values: (z, y, x) on the scan's own grid: raw values of the plan's classes, its value to ignore elsewhere.
        known: Share of the voxels that are not ignored.
    """

    case: PreparedCase
    source: Path
    digest: str
    values: NDArray[np.int64]
    known: float

    @property
    def words(self) -> str:
        """What it is to its scan, and how much of it is annotated."""
        kind = "new" if self.case.label is None else "corrected"
        return kind if self.known == 1 else f"{kind}, {self.known:.0%} of its voxels annotated"


def plan_with_ignored(plan: Plan) -> Plan:
    """The plan with a raw value to ignore: its own, or the first of 255, 254 and so on that is no class."""
    if plan.ignore_value is not None:
        return plan
    used = {*plan.label_values, *plan.label_aliases}
    return replace(plan, ignore_value=next(value for value in range(NOT_LOOKED_AT, -1, -1) if value not in used))


def read_annotations(
    files: Mapping[str, Path],
    cases: Mapping[str, PreparedCase],
    plan: Plan,
    meanings: Meanings | None = None,
    empty_slices: EmptySlices = "auto",
) -> tuple[list[AnnotationMask], list[str]]:
    """Read masks.

    Voxels of 255 are those that nobody looked at, unless it is a class. A mask that has none of them is asked for
    slices without any label, as ``empty_slices`` says.

    Args:
        files: Case → its mask.
        cases: Case → the scan.
        plan: Of the store, with a value to ignore.
        meanings: What other values in the masks stand for: a value of the plan, or ``ignore``.
        empty_slices: As in :mod:`fewlabel.data.unannotated_slices`.

    Returns:
        The masks, and sentences on slices that are left out.

    Raises:
        DataError: With every mask that cannot be read, lies on another grid, holds unknown values or no annotation.
    """
    ignore = plan.ignore_value
    if ignore is None:
        raise ValueError("masks are read by a plan with a value to ignore")
    read: dict[str, NDArray[np.int64]] = {}
    digests: dict[str, str] = {}
    faults: list[Fault] = []
    for case_id, path in files.items():
        # Before it is read: one that is saved anew meanwhile counts as new the next time.
        digests[case_id] = hashlib.sha256(path.read_bytes()).hexdigest()
        try:
            read[case_id] = read_annotation(cases[case_id], path, plan, meanings)
        except DataError as error:
            faults.extend(error.faults)
    if faults:
        raise DataError("These masks cannot be used:", faults)
    across = {case_id: int(cases[case_id].record["axes"][0]) for case_id in read}
    whole = {case_id: values for case_id, values in read.items() if not (values == ignore).any()}
    along = {case_id: annotated_slices(values)[across[case_id]] for case_id, values in whole.items()}
    left_out, notes = unannotated(along, empty_slices)
    masks = []
    for case_id, values in read.items():
        if slices := left_out.get(case_id):
            np.moveaxis(values, across[case_id], 0)[list(slices)] = ignore
        known = float((values != ignore).mean())
        masks.append(AnnotationMask(cases[case_id], files[case_id], digests[case_id], values, known))
    return masks, notes


def read_annotation(case: PreparedCase, path: Path, plan: Plan, meanings: Meanings | None = None) -> NDArray[np.int64]:
    """Read one mask, all slices of it counting, as :attr:`AnnotationMask.values`.

    Args:
        case: The scan, which need not have been prepared.
        path: The mask.
        plan: Of the store, with a value to ignore.
        meanings: As in :func:`read_annotations`.

    Raises:
        DataError: If it cannot be read, lies on another grid, or holds unknown values or no annotation.
    """
    ignore = plan.ignore_value
    if ignore is None:
        raise ValueError("masks are read by a plan with a value to ignore")
    image = Path(case.images[0])
    grid = read_geometry(image)
    _, apart = mask_faults(image, grid, path)
    if apart:
        faults = [replace(fault, where=fault.where or shown(path)) for fault in apart]
        raise DataError("A mask cannot be used:", faults)
    raw = read_mask(path, grid=grid)
    classes = set(plan.label_values)
    stands_for = {value: value for value in classes} | dict(plan.label_aliases) | {ignore: ignore}
    if NOT_LOOKED_AT not in stands_for:
        stands_for[NOT_LOOKED_AT] = ignore
    stands_for |= {value: ignore if meaning == IGNORE else meaning for value, meaning in (meanings or {}).items()}
    present = value_counts(raw)
    unknown = [value for value in sorted(present) if stands_for.get(value) not in {*classes, ignore}]
    if unknown:
        names = ", ".join(f"{value} ({name})" for value, name in zip(plan.label_values, plan.label_names, strict=True))
        few = ", ".join(map(str, unknown[:_MOST_NAMED])) + (", …" if len(unknown) > _MOST_NAMED else "")
        problem = f"must hold {names}, or {NOT_LOOKED_AT} where nobody looked, not {few}"
        remedy = "Say what they stand for, as in labels={4: ignore}"
        raise DataError("A mask cannot be used:", [Fault(problem, shown(path), remedy)])
    values = np.empty(raw.shape, dtype=np.int64)
    for value in present:
        values[raw == value] = stands_for[value]
    if (values == ignore).all():
        raise DataError("A mask cannot be used:", [Fault("holds no annotation at all", shown(path), "Leave it out")])
    return values
