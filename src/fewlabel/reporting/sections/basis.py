"""What the network was trained on, in the few facts that everybody is to know."""

from __future__ import annotations

from collections.abc import Sequence

from fewlabel.data.store import PreparedStore
from fewlabel.reporting.blocks import Facts, Section
from fewlabel.reporting.formatting import count, listed
from fewlabel.reporting.inputs import Training

TITLE = "What it was trained on"


def basis_section(store: PreparedStore | None, labelled: Sequence[str], used: Training | None) -> Section | None:
    """Patients, scans and structures; None without the prepared scans.

    Args:
        store: The prepared scans.
        labelled: Patients whose masks trained the network in use.
        used: That network.
    """
    if store is None:
        return None
    parts = store.split["parts"]
    test, learnt = set(parts.get("test", ())), set(labelled)
    training = {*parts.get("train", ()), *parts.get("pretrain", ())} - test
    annotated = [case for case in store.cases if case.subject in learnt and case.label is not None]
    plain = [case for case in store.cases if case.subject in training and case not in annotated]
    tested = [case for case in store.cases if case.subject in test and case.label is not None]
    partly = _partly(store, [case.id for case in annotated])
    facts = [
        ("Data set", str(store.plan.get("dataset", ""))),
        ("Structures", listed([name for index, name in sorted(store.label_names.items()) if index], 12)),
        (
            "Annotated for training",
            f"{count(len(annotated), 'scan')} of {listed(list(labelled))}{partly}" if annotated else "",
        ),
        ("Used without their masks", f"{count(len(plain), 'scan')} of {_patients(plain)}" if plain and used else ""),
        ("Kept for testing", f"{count(len(tested), 'scan')} of {_patients(tested)}" if tested else "none"),
    ]
    return Section("basis", TITLE, "", [Facts([(term, value) for term, value in facts if value])])


def _partly(store: PreparedStore, annotated: Sequence[str]) -> str:
    """How much of the annotated scans is annotated, where that is not all."""
    rows = store.slices[store.slices["case"].isin(list(annotated))]
    known, every = int(rows["labelled"].sum()), len(rows)
    return "" if known == every else f", {known} of {every} slices of them"


def _patients(cases: Sequence[object]) -> str:
    return count(len({case.subject for case in cases}), "patient")  # type: ignore[attr-defined]
