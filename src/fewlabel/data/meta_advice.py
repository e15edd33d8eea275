"""What slice meta labels tell, and which are worth using."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.meta_labels import MISSING

Codes = NDArray[np.integer[Any]]
#: Above this share of slices without it a label guides too little.
MOST_MISSING = 0.5
#: Mutual information, as a share of the entropies' mean, from which two labels say the same.
SAME = 0.999
NEARLY = 0.9
_SITE = re.compile(
    r"(site|cent(er|re)|hospital|institut(e|ion)|scanner|vendor|manufacturer|station|clinic)", re.IGNORECASE
)
_FIRST = ("position", "patient")


@dataclass(frozen=True)
class LabelAdvice:
    """What one meta label tells.

    Attributes:
        name: Of the label.
        classes: Classes that occur.
        missing: Share of slices without it.
        shared: Other label → (bits in common, their share of the mean of both entropies).
        objection: Why not to use it; empty if nothing speaks against it.
        hint: What to know before it is used; empty if nothing.
    """

    name: str
    classes: int
    missing: float
    shared: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    objection: str = ""
    hint: str = ""


def mutual_information(first: Codes, second: Codes) -> tuple[float, float]:
    """Mutual information of two labels in bits, and as a share of the mean of their entropies (0 to 1).

    The share is 1 where each follows from the other and 0 where either is constant (Strehl and Ghosh, JMLR 2002, with
    the arithmetic mean).

    Args:
        first: Class of each slice (n,); missing ones are -1 and pass over that slice.
        second: Likewise.
    """
    known = (first != MISSING) & (second != MISSING)
    if not known.any():
        return 0.0, 0.0
    _, a = np.unique(first[known], return_inverse=True)
    _, b = np.unique(second[known], return_inverse=True)
    # Of pairs of classes only those that occur: a table of all would be large where both are names.
    one, other, both = (_entropy(np.unique(codes, return_counts=True)[1]) for codes in (a, b, a * (b.max() + 1) + b))
    bits, mean = max(0.0, one + other - both), (one + other) / 2
    return bits, bits / mean if mean > 0 else 0.0


def advise(labels: Mapping[str, Codes], cases: Codes, subjects: Codes) -> list[LabelAdvice]:
    """What each label tells, those first that come before others.

    Args:
        labels: Meta label → class of each slice (n,), -1 where it is missing.
        cases: The scan of each slice (n,).
        subjects: The person of each slice (n,).
    """
    order = sorted(labels, key=lambda name: (*(name != first for first in _FIRST), _SITE.search(name) is None))
    shared = {name: {} for name in order}  # type: dict[str, dict[str, tuple[float, float]]]
    for index, name in enumerate(order):
        for other in order[index + 1 :]:
            shared[name][other] = shared[other][name] = mutual_information(labels[name], labels[other])
    advice: list[LabelAdvice] = []
    for name in order:
        codes = labels[name]
        known = codes != MISSING
        classes = len(np.unique(codes[known]))
        missing = 1.0 - float(known.mean()) if len(codes) else 1.0
        useful = [other.name for other in advice if not other.objection]
        objection = _objection(name, codes, cases, subjects, useful, shared[name])
        if not objection and missing > MOST_MISSING:
            objection = f"missing in {missing:.0%} of the slices"
        near = [other for other in useful if NEARLY <= shared[name][other][1] < SAME]
        hint = f"says nearly the same as {near[0]}" if near and not objection else ""
        advice.append(LabelAdvice(name, classes, missing, shared[name], objection, hint))
    return advice


def _objection(
    name: str,
    codes: Codes,
    cases: Codes,
    subjects: Codes,
    useful: Sequence[str],
    shared: Mapping[str, tuple[float, float]],
) -> str:
    known = codes != MISSING
    classes = len(np.unique(codes[known]))
    if classes < 2 and name == "position":
        return "one class for all slices: where a slice lies says nothing here"
    if classes < 2:
        return "constant" if classes else "no value"
    if classes == int(known.sum()):
        return "another class for every slice: no two slices have anything in common"
    persons, scans = len(np.unique(subjects[known])), len(np.unique(cases[known]))
    named = name not in _FIRST and classes in {persons, scans}
    # A label of all its own for every person or scan is a name.
    if named and classes == persons and mutual_information(codes, subjects)[1] >= SAME:
        return "equal to the patient"
    if named and classes == scans:
        return "another class for every scan"
    same = next((other for other in useful if shared[other][1] >= SAME), "")
    return f"equal to {'the site, ' if _SITE.search(same) else ''}{same}" if same else ""


def _entropy(counts: NDArray[np.integer[Any]]) -> float:
    """Entropy in bits of classes that occur so many times each."""
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum())
