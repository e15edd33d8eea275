"""Facts of every scan of a data set, from headers and masks, with every fault found at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.progress import task
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.images_given_as_masks import image_given_as_mask
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.io.composite_paths import slices_without_mask
from fewlabel.data.io.dicom.address import dicom_roots
from fewlabel.data.io.dicom.data_set_index import open_archive
from fewlabel.data.io.dicom.data_set_patients import names_a_patient
from fewlabel.data.io.geometry import Geometry, grid_faults, origin_alone
from fewlabel.data.io.volume_reading import mask_faults, read_geometry, read_mask
from fewlabel.data.label_extents import LabelShape, label_shapes
from fewlabel.data.unannotated_slices import Annotated, annotated_slices
from fewlabel.data.unexpected_errors import unforeseen_fault
from fewlabel.data.voxel_counts import value_counts

#: Voxel size (z, y, x) in mm of files that do not hold one: distances in it are voxels.
ASSUMED = (1.0, 1.0, 1.0)
_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True)
class CaseFacts:
    """What is known of a scan without reading its intensities.

    Attributes:
        case: The scan.
        geometry: Of its first channel; None if that cannot be read.
        labels: Raw label value → voxels; None without a readable label.
        annotated: Slices with a label along (z, y, x); empty without a readable label.
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
    annotated: tuple[Annotated, ...] = ()


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def in_threads(work: Callable[[_In], _Out], items: Iterable[_In], workers: int) -> Iterator[_Out]:
    """Results in order, from threads: ITK and NumPy release the interpreter where the time goes.

    Each item is loaded by the thread that works on it, so at most ``workers`` of them are in memory. An error or an
    interrupt drops the items not yet begun. With one worker there is no thread but the caller's own.
    """
    if workers <= 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers)
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def inspect_case(
    case: Case, channels: int, voxel_size: Sequence[float] | None = None, *, accept_origin: bool = False
) -> CaseFacts:
    """Headers of all files and values of the mask.

    Args:
        case: The scan.
        channels: That it must have.
        voxel_size: (z, y, x) in mm of files that do not say; None where nobody knows.
        accept_origin: Whether the mask may lie elsewhere, if all but its origin agrees.
    """
    faults: list[Fault] = []
    odd: list[str] = []
    components = 0
    first: Geometry | None = None
    for path in case.images:
        try:
            geometry = read_geometry(path)
        except DataError as error:
            faults.extend(error.faults)
            continue
        except Exception as error:  # noqa: BLE001  # of whatever kind
            faults.append(unforeseen_fault(error, shown(path)))
            continue
        components += geometry.components
        odd.extend(f"{path.name if len(case.images) > 1 else 'scan'}: {note}" for note in geometry.notes)
        faults.extend(_blank_faults(path, geometry))
        if first is None:
            first = geometry
        else:
            faults.extend(grid_faults(case.images[0], first, path, geometry))
    if first is not None:
        if not faults and components != channels:
            wanted = f"{channels} channel" if channels == 1 else f"{channels} channels"
            problem, remedy = f"must have {wanted}, not {components}", "Give it the channels that the others have"
            faults.append(Fault(problem, shown(case.images[0]), remedy))
        if 0 in first.shape:
            faults.append(Fault(f"has no voxels: its shape is {first.shape}", shown(case.images[0])))
    mask, labels = _mask(case, first, faults, odd, accept_origin=accept_origin), None
    if mask is not None and case.label is not None:
        labels = value_counts(mask)
        if (fault := image_given_as_mask(mask, labels, shown(case.label))) is not None:
            faults.append(fault)
            mask = labels = None
    if labels is not None and set(labels) <= {0}:
        odd.append("its mask is all background")
    named = tuple(replace(fault, where=f"case {case.id}, {fault.where}") for fault in faults)
    placed = None if first is None else first.sized(voxel_size or ASSUMED, known=voxel_size is not None)
    shapes, annotated = ({}, ()) if mask is None else (label_shapes(mask), _annotated(case, mask))
    return CaseFacts(case, placed, labels, named, tuple(odd), shapes, annotated)


def inspect(
    catalog: Catalog, workers: int, voxel_size: Sequence[float] | None = None, *, accept_origin: bool = False
) -> list[CaseFacts]:
    """Facts of all cases, in catalog order; faults are kept, not raised.

    Args:
        catalog: The data set.
        workers: Threads.
        voxel_size: (z, y, x) in mm of files that do not say; None where nobody knows.
        accept_origin: As for :func:`inspect_case`.
    """
    facts = []
    channels = len(catalog.channels)
    with task("check", len(catalog.cases)) as bar:

        def look(case: Case) -> CaseFacts:
            return inspect_case(case, channels, voxel_size, accept_origin=accept_origin)

        for fact in in_threads(look, catalog.cases, workers):
            facts.append(fact)
            bar.advance(note=fact.case.id)
    return facts


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
    faults.extend(_naming_faults(catalog))
    masks: dict[Path, Case] = {}
    for case in catalog.cases:
        if case.label is None:
            continue
        other = masks.setdefault(case.label, case)
        if other.subject != case.subject and other.id != case.id:
            problem = f"is the mask of {other.id} and of {case.id}, who are two subjects"
            faults.append(Fault(problem, shown(case.label), "Give each scan its own mask, or both the same subject"))
    return faults


def _naming_faults(catalog: Catalog) -> list[Fault]:
    """A data set of DICOM whose own path names a patient: what is made from it would say where it lies."""
    roots = dicom_roots(path for case in catalog.cases for path in case.images)
    problem = "its path names a patient, and what is made from the data says where they lie"
    remedy = "Give a link to it under another name, the folder above it, or rename it"
    return [
        Fault(problem, str(root), remedy) for root in roots if names_a_patient(root, open_archive(root).tree.headers)
    ]


def _blank_faults(path: Path, geometry: Geometry) -> list[Fault]:
    """Channels of which nothing can be prepared: none of their voxels is a finite number."""
    if len(geometry.blank) == geometry.components:
        return [Fault("has no finite voxel", shown(path), "Export it again, or leave it out")]
    return [
        Fault(f"channel {number + 1} of {geometry.components} has no finite voxel", shown(path), "Export it again")
        for number in geometry.blank
    ]


def _turned(geometry: Geometry) -> bool:
    """Whether a picture is turned by its EXIF tag."""
    return any("EXIF" in note for note in geometry.notes)


def _annotated(case: Case, mask: NDArray[np.integer[Any]]) -> tuple[Annotated, ...]:
    """Slices with a label along (z, y, x); pictures without a mask are slices along z."""
    z, y, x = annotated_slices(mask)
    without = () if case.label is None else slices_without_mask(case.label)
    return (replace(z, without=without), y, x)


def _mask(
    case: Case, image: Geometry | None, faults: list[Fault], odd: list[str], *, accept_origin: bool
) -> NDArray[np.integer[Any]] | None:
    """The mask of a case; None where there is none, or none that can be used."""
    if case.label is None:
        return None
    try:
        geometry, apart = mask_faults(case.images[0], image, case.label, accept_origin=accept_origin)
        faults.extend(apart)
        odd.extend(f"label: {note}" for note in geometry.notes if "transparency" not in note)
        if image is not None and _turned(image) and not _turned(geometry):
            odd.append("its label has no EXIF tag: it is taken to lie on the image as viewers show it")
        if image is not None and not apart and origin_alone(image, geometry):
            odd.append("its label has another origin, which is accepted: the voxels are taken as they are")
        return read_mask(case.label, odd, image if not apart else None)
    except DataError as error:
        faults.extend(error.faults)
        return None
    except Exception as error:  # noqa: BLE001  # of whatever kind
        faults.append(unforeseen_fault(error, shown(case.label)))
        return None
