"""Masks without any structure: which patients have no other, and whether one is a slip among those of a data set."""

from __future__ import annotations

from collections.abc import Collection, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.added_mask_reading import AnnotationMask
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore


class EmptyMaskError(DataError):
    """A mask is all background, where no other is; somebody may say that it is right."""


def subjects_without_structure(store: PreparedStore) -> frozenset[str]:
    """Subjects with masks that hold nothing but background."""
    full = {case.subject for case in _labelled(store) if _has_structure(store, case)}
    return frozenset(case.subject for case in _labelled(store)) - full


def holds_structure(values: NDArray[np.integer[Any]], plan: Plan) -> bool:
    """Whether there is anything but background, and what nobody looked at, in raw values that a plan knows."""
    nothing = [value for value in (plan.label_values[0], plan.ignore_value) if value is not None]
    return not np.isin(values, nothing).all()


def empty_mask_faults(
    store: PreparedStore,
    masks: Sequence[AnnotationMask],
    plan: Plan,
    confirmed: Set[tuple[str, str]] = frozenset(),
    redrawn: Collection[str] = (),
) -> list[Fault]:
    """A fault for each new mask without any structure, in a data set all of whose other masks have one.

    Where a mask of the data set has none either, as with lesions that some patients do not have, nothing is wrong.

    Args:
        store: The data before these masks.
        masks: Those that come.
        plan: By which they were read.
        confirmed: Id and digest of masks that somebody said are right, as
            :func:`fewlabel.data.annotation_saving.said_to_be_empty` finds them.
        redrawn: Ids of further scans whose masks of the data are about to give way to others.
    """
    coming = {*(mask.case.id for mask in masks), *redrawn}
    doubtful = [mask for mask in masks if (mask.case.id, mask.digest) not in confirmed]
    empty = [mask for mask in doubtful if not holds_structure(mask.values, plan)]
    if not empty or not all(_has_structure(store, case) for case in _labelled(store) if case.id not in coming):
        return []
    remedy = "Draw it, or leave it out; if there is nothing on the scan, say empty_masks=true"
    return [Fault("is all background, as no other mask is", shown(mask.source), remedy) for mask in empty]


def check_structure(
    store: PreparedStore,
    case: PreparedCase,
    values: NDArray[np.integer[Any]],
    plan: Plan,
    remedy: str,
    redrawn: Collection[str],
) -> None:
    """Refuse to save a mask that ``learn`` would refuse, as :func:`empty_mask_faults` has it.

    Args:
        store: The data.
        case: The scan.
        values: (z, y, x) raw values.
        plan: What they stand for.
        remedy: How to say that it is right.
        redrawn: Ids of scans with a mask that the data would take, as :func:`fewlabel.data.relabel.untaken_masks` tells
            them: what the data have of these makes no other empty mask usual.

    Raises:
        EmptyMaskError: If it is all background, as no other mask is.
    """
    if (values == plan.ignore_value).all():
        # No annotation at all, which no option makes one.
        return
    mask = AnnotationMask(case, Path(case.images[0]), "", values.astype(np.int64), 1.0)
    faults = empty_mask_faults(store, [mask], plan, redrawn=redrawn)
    if faults:
        told = [replace(fault, where=case.id, remedy=remedy) for fault in faults]
        raise EmptyMaskError("The mask was not saved:", told)


def _labelled(store: PreparedStore) -> list[PreparedCase]:
    return [case for case in store.cases if case.label is not None]


def _has_structure(store: PreparedStore, case: PreparedCase) -> bool:
    labels = store.labels[case.start : case.stop]
    return bool(((labels != 0) & (labels != UNLABELLED)).any())
