"""Which unlabelled scans a report shows where none was scored: spread over the network's confidence."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.reporting.sections.unlabelled_predictions import ShownScan

#: Scans that are predicted to choose from, at most.
SURVEYED = 40


def candidates(store: PreparedStore, learnt: Collection[str]) -> list[PreparedCase]:
    """Training scans whose labels, if any, the network has not learnt from; evenly spread where there are many.

    Args:
        store: The prepared data.
        learnt: Subjects whose labels were learnt from or selected by.
    """
    parts = store.split["parts"]
    held = {*parts.get("test", ()), *parts.get("validation", ())}
    training = {*parts.get("train", ()), *parts.get("pretrain", ())} - held
    cases = [case for case in store.cases if case.subject in training - set(learnt)]
    return [cases[place] for place in _spread(len(cases), SURVEYED)]


def shown_scans(
    store: PreparedStore,
    cases: Sequence[PreparedCase],
    predict: Callable[[PreparedCase], tuple[NDArray[np.uint8], NDArray[np.float32]]],
    count: int,
) -> list[ShownScan]:
    """So many of some scans, from the least to the most confident, the others evenly between.

    Args:
        store: The prepared data.
        cases: The scans.
        predict: Gives of a scan its (depth, height, width) classes and their probabilities.
        count: How many to show.
    """
    predicted = []
    for case in cases:
        classes, probabilities = predict(case)
        inside = probabilities[classes > 0]
        predicted.append((case, classes, float(inside.mean(dtype=np.float64)) if inside.size else None))
    order = sorted(predicted, key=lambda entry: (-1.0 if entry[2] is None else entry[2], entry[0].id))
    return [
        ShownScan(
            order[place][0].id,
            place + 1,
            np.asarray(store.images[order[place][0].start : order[place][0].stop, 0], np.float32),
            order[place][1],
            order[place][2],
        )
        for place in _spread(len(order), count)
    ]


def _spread(length: int, count: int) -> list[int]:
    """At most ``count`` places among so many, first and last among them."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(int)).tolist() if length else []
