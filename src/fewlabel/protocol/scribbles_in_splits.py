"""Scribbles beside full labels: which of them each part of a split would learn from or be scored on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Catalog
from fewlabel.data.io.hdf5_and_npz_arrays import Address

SCRIBBLES = "scribbles"
FULL = "full labels"
#: Kinds of labels that a part may hold in a data set that has both, each by itself.
_FITTING = {"train": {SCRIBBLES}, "validation": {SCRIBBLES, FULL}, "test": {FULL}}


def label_kinds(catalog: Catalog) -> dict[str, set[str]]:
    """Subject → kinds of its labels, by the array that each label is read from; subjects without one are left out."""
    kinds: dict[str, set[str]] = defaultdict(set)
    for case in catalog.cases:
        if case.label is not None:
            address = Address.parse(case.label)
            kinds[case.subject].add(SCRIBBLES if address is not None and address.key == "scribble" else FULL)
    return dict(kinds)


def kind_faults(catalog: Catalog, split: Mapping[str, Any]) -> list[Fault]:
    """A fault per part that would mix scribbles and full labels, train on full ones or be tested on scribbles.

    A data set with one kind of label has none: where all scans have scribbles alone, tests are scored on scribbles.
    """
    kinds = label_kinds(catalog)
    if len(set().union(*kinds.values())) < 2:
        return []
    faults = []
    for part, fitting in _FITTING.items():
        by_kind = _by_kind(kinds, split["parts"].get(part, ()))
        if len(by_kind) > 1 or not set(by_kind) <= fitting:
            text = " and ".join(
                f"{len(subjects)} subjects with {kind}, such as {subjects[0]}" for kind, subjects in by_kind.items()
            )
            problem = (
                f"the {part} part has {text}; where a data set has both, train on scribbles and test on full labels"
            )
            remedy = "Use split=auto, which follows the lists, or reader.label=label for full labels everywhere"
            faults.append(Fault(problem, f"split {split['name']}", remedy))
    return faults


def kind_notes(catalog: Catalog, split: Mapping[str, Any]) -> list[str]:
    """A note where a model is selected on scribbles."""
    by_kind = _by_kind(label_kinds(catalog), split["parts"].get("validation", ()))
    if SCRIBBLES not in by_kind:
        return []
    return [
        f"{len(by_kind[SCRIBBLES])} validation subjects have scribbles, no full labels: a model is selected by the "
        "marked pixels alone (a list val.list keeps scans with full labels for it, validation_fraction=0 none)"
    ]


def _by_kind(kinds: Mapping[str, set[str]], subjects: Any) -> dict[str, list[str]]:
    having_kind: dict[str, list[str]] = {}
    for kind in (FULL, SCRIBBLES):
        having = [subject for subject in subjects if kind in kinds.get(subject, ())]
        if having:
            having_kind[kind] = having
    return having_kind
