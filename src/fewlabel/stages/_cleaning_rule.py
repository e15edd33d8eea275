"""The rule by which predictions of a segmenter are cleaned: decided from its labelled masks, kept in its facts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.scoring.component_rule import ComponentRule

#: Key of the rule in ``segmenter.json``.
KEY = "postprocess"


def decided_rule(store: PreparedStore, subjects: Iterable[str]) -> ComponentRule:
    """What the labelled masks of these subjects decide, as they are on the prepared grid."""
    wanted = set(subjects)
    masks = (
        (np.asarray(store.labels[case.start : case.stop]), prepared_voxel(store, case))
        for case in store.cases
        if case.subject in wanted and case.label is not None
    )
    return ComponentRule.decide(masks, [index for index in store.label_names if index])


def rule_of(facts: Mapping[str, Any]) -> ComponentRule | None:
    """The rule of a segmenter; None where it has none, as those made before there were any."""
    record = facts.get(KEY)
    return None if record is None else ComponentRule.load(record)


def prepared_spacing(store: PreparedStore, case: PreparedCase) -> tuple[float, float, float] | None:
    """(z, y, x) spacing in mm of a prepared scan; None where the scan's record does not say how thick slices are."""
    if not {"spacing", "axes"} <= case.record.keys():
        return None
    row, column = map(float, store.plan["spacing"])
    return float(case.record["spacing"][case.record["axes"][0]]), row, column


def prepared_voxel(store: PreparedStore, case: PreparedCase) -> float | None:
    """Volume in mm³ of a voxel of a prepared scan; None where :func:`prepared_spacing` is."""
    spacing = prepared_spacing(store, case)
    return None if spacing is None else prod(spacing)
