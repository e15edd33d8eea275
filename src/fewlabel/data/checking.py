"""Facts of every scan of a data set, from headers and masks, with every fault found at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.progress import task
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.io.geometry import Geometry, grid_faults
from fewlabel.data.io.volume import read_geometry, read_mask, value_counts
from fewlabel.data.label_shapes import LabelShape, label_shapes
from fewlabel.data.unforeseen import unforeseen_errors, unforeseen_fault

IGNORE_NAME = "ignore"
MOST_CLASSES = 254
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a scan without reading its intensities.

    Attributes:
        case: The scan.
        geometry: Of its first channel; None if that cannot be read.
        labels: Raw label value → voxels; None without a readable label.
        shapes: Raw label value, but not 0 → where its voxels lie; empty without a readable label.
        faults: Everything that keeps the scan from being used.
        odd: What is unusual but does no harm.
    """

    case: Case
    geometry: Geometry | None
    labels: Mapping[int, int] | None
    faults: tuple[Fault, ...] = ()
    odd: tuple[str, ...] = ()
    shapes: Mapping[int, LabelShape] = field(default_factory=dict)


@dataclass(frozen=True)
class LabelMap:
    """Raw label values as classes.

    Attributes:
        values: Raw value of each class, background first.
        names: Name of each class.
        ignore: Raw value left out of training and scoring, or None.
        voxels: Voxels of each class over all masks.
    """

    values: tuple[int, ...]
    names: tuple[str, ...]
    ignore: int | None = None
    voxels: tuple[int, ...] = field(default=())


def cores() -> int:
    """Cores this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def in_threads(work: Callable[[_In], _Out], items: Iterable[_In], workers: int) -> Iterator[_Out]:
    """Results in order, from threads: ITK and NumPy release the interpreter where the time goes.

    Each item is loaded by the thread that works on it, so at most ``workers`` of them are in memory. An error or an
    interrupt drops the items not yet begun.
    """
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def inspect_case(case: Case, channels: int) -> CaseFacts:
    """Headers of all files and values of the mask."""
    faults: list[Fault] = []
    odd: list[str] = []
    found = 0
    first: Geometry | None = None
    for path in case.images:
        try:
            geometry = read_geometry(path)
        except DataError as error:
            faults.extend(error.faults)
            continue
        except unforeseen_errors() as error:
            faults.append(unforeseen_fault(error, shown(path)))
            continue
        found += geometry.components
        if first is None:
            first = geometry
        else:
            faults.extend(grid_faults(case.images[0], first, path, geometry))
    if first is not None:
        if not faults and found != channels:
            wanted = f"{channels} channel" if channels == 1 else f"{channels} channels"
            problem, remedy = f"must have {wanted}, not {found}", "Give it the channels that the others have"
            faults.append(Fault(problem, shown(case.images[0]), remedy))
        if min(first.spacing) <= 0 or not np.isfinite(first.spacing).all():
            faults.append(Fault(f"voxel sizes must be positive, not {first.spacing} mm", shown(case.images[0])))
        if 0 in first.shape:
            faults.append(Fault(f"has no voxels: its shape is {first.shape}", shown(case.images[0])))
    mask = _mask(case, first, faults, odd)
    labels = None if mask is None else value_counts(mask)
    if labels is not None and set(labels) <= {0}:
        odd.append("its label holds background only")
    named = tuple(replace(fault, where=f"case {case.id}, {fault.where}") for fault in faults)
    return CaseFacts(case, first, labels, named, tuple(odd), {} if mask is None else label_shapes(mask))


def inspect(catalog: Catalog, workers: int) -> list[CaseFacts]:
    """Facts of all cases, in catalog order; faults are kept, not raised."""
    facts = []
    with task("check", len(catalog.cases)) as bar:
        for fact in in_threads(lambda case: inspect_case(case, len(catalog.channels)), catalog.cases, workers):
            facts.append(fact)
            bar.advance(note=fact.case.id)
    return facts


def label_map(catalog: Catalog, facts: Sequence[CaseFacts]) -> tuple[LabelMap, list[Fault]]:
    """Classes from all label values found and all the data set declares; any whole numbers will do."""
    ignored = [value for value, name in catalog.label_names.items() if name.lower() == IGNORE_NAME and value != 0]
    ignore = ignored[0] if ignored else None
    counts: dict[int, int] = {}
    for fact in facts:
        for value, voxels in (fact.labels or {}).items():
            counts[value] = counts.get(value, 0) + voxels
    foreground = sorted({*counts, *catalog.label_names} - {0, ignore})
    values = (0, *(value for value in foreground if value is not None))
    names = tuple(catalog.label_names.get(value, "background" if value == 0 else f"label {value}") for value in values)
    faults = []
    if len(values) > MOST_CLASSES + 1:
        problem = f"masks may hold up to {MOST_CLASSES} classes, not {len(values)}"
        faults.append(Fault(problem, str(catalog.root), "Are these masks, or images?"))
    return LabelMap(values, names, ignore, tuple(counts.get(value, 0) for value in values)), faults


def catalog_faults(catalog: Catalog) -> list[Fault]:
    """What is wrong with a catalog as such: no cases, ids that are not unique, or one mask of two persons."""
    if not catalog.cases:
        return [Fault("must contain at least one scan", str(catalog.root))]
    first: dict[str, Path] = {}
    faults = []
    for case in catalog.cases:
        if case.id in first:
            problem = f'{shown(first[case.id])} and {shown(case.images[0])} have the same case id, "{case.id}"'
            faults.append(Fault(problem, str(catalog.root), "Rename one, or give a case column"))
        first[case.id] = case.images[0]
    masks: dict[Path, Case] = {}
    for case in catalog.cases:
        if case.label is None:
            continue
        other = masks.setdefault(case.label, case)
        if other.subject != case.subject and other.id != case.id:
            problem = f"is the mask of {other.id} and of {case.id}, who are two subjects"
            faults.append(Fault(problem, shown(case.label), "Give each scan its own mask, or both the same subject"))
    return faults


def _mask(case: Case, image: Geometry | None, faults: list[Fault], odd: list[str]) -> NDArray[np.int64] | None:
    """The mask of a case; None where there is none, or none that can be used."""
    if case.label is None:
        return None
    try:
        geometry = read_geometry(case.label)
        if image is not None:
            faults.extend(grid_faults(case.images[0], image, case.label, geometry))
        return read_mask(case.label, odd)
    except DataError as error:
        faults.extend(error.faults)
        return None
    except unforeseen_errors() as error:
        faults.append(unforeseen_fault(error, shown(case.label)))
        return None
