"""Masks without any structure: which patients have no other, and whether one is a slip among those of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewlabel.core.errors import Fault
from fewlabel.data.added_mask_reading import AnnotationMask
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore


def subjects_without_structure(store: PreparedStore) -> frozenset[str]:
    """Subjects with masks that hold nothing but background."""
    full = {case.subject for case in _labelled(store) if _has_structure(store, case)}
    return frozenset(case.subject for case in _labelled(store)) - full


def empty_mask_faults(store: PreparedStore, masks: Sequence[AnnotationMask], plan: Plan) -> list[Fault]:
    """A fault for each new mask without any structure, in a data set all of whose other masks have one.

    Where a mask of the data set has none either, as with lesions that some patients do not have, nothing is wrong.

    Args:
        store: The data before these masks.
        masks: Those that come.
        plan: By which they were read.
    """
    nothing = [value for value in (plan.label_values[0], plan.ignore_value) if value is not None]
    coming = {mask.case.id for mask in masks}
    empty = [mask for mask in masks if np.isin(mask.values, nothing).all()]
    if not empty or not all(_has_structure(store, case) for case in _labelled(store) if case.id not in coming):
        return []
    remedy = "Draw it, or leave it out; if there is nothing on the scan, say empty_masks=true"
    return [Fault("is all background, as no other mask is", shown(mask.source), remedy) for mask in empty]


def _labelled(store: PreparedStore) -> list[PreparedCase]:
    return [case for case in store.cases if case.label is not None]


def _has_structure(store: PreparedStore, case: PreparedCase) -> bool:
    labels = store.labels[case.start : case.stop]
    return bool(((labels != 0) & (labels != UNLABELLED)).any())
