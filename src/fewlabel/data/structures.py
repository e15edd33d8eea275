"""Structures of labelled masks: which class lies within which, and what is one body.

Nothing here knows an organ. A class whose border touches one other class and hardly anything else lies within it, as a
cavity within its wall; the two together are one structure with an outer surface. Every other class is a structure of
its own, and each body of it that does not touch another of the class.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: In a slice a class lies within another if this share of its border pixels' outer sides touches that one.
ENCLOSED = 0.8
#: Pixels of a disc with a radius of 2; bodies that have fewer in every slice are specks.
SPECK = 12
#: Bodies of a volume; those beyond are its smallest.
MOST_BODIES = 254


@dataclass(frozen=True)
class Nesting:
    """Which class lies within which.

    Attributes:
        parents: Class → the class it lies within.
        roots: Class → the outermost class about it; a class that lies in none is its own. Background has none.
    """

    parents: dict[int, int]
    roots: dict[int, int]

    def within(self, label: int) -> list[int]:
        """The class and all that lie in it, at any depth."""
        found = [label]
        for one in found:
            found.extend(child for child, parent in self.parents.items() if parent == one)
        return found

    def depth(self, label: int) -> int:
        """How many classes lie about this one."""
        return 1 + self.depth(self.parents[label]) if label in self.parents else 0


def find_nesting(masks: Iterable[NDArray[np.uint8]], classes: int) -> Nesting:
    """The nesting that most labelled slices show.

    Args:
        masks: Each (height, width), class index or 255.
        classes: Classes with background.
    """
    seen = np.zeros(classes, int)
    inside = np.zeros((classes, classes), int)
    areas = np.zeros(classes, int)
    for mask in masks:
        counts = np.bincount(mask.ravel(), minlength=256)[:classes]
        areas += counts
        touching = _contacts(mask, classes)
        large = counts >= SPECK
        large[0] = False
        seen += large
        sides = np.maximum(touching.sum(axis=1, keepdims=True), 1)
        inside += (touching[:, :classes] >= ENCLOSED * sides) & large[:, None]
    parents: dict[int, int] = {}
    # Of classes that touch nothing but each other the smallest is the innermost, so it comes first.
    for label in sorted(range(1, classes), key=lambda one: areas[one]):
        best = max(range(1, classes), key=lambda other: inside[label, other])
        if inside[label, best] * 2 > seen[label] and _outermost(best, parents) != label:
            parents[label] = best
    return Nesting(parents, {label: _outermost(label, parents) for label in range(1, classes)})


def _outermost(label: int, parents: dict[int, int]) -> int:
    while label in parents:
        label = parents[label]
    return label


def _contacts(mask: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """(classes, classes + 1): sides of the pixels of each class that touch each class, last what has no label."""
    codes = np.where(mask < classes, mask, classes).astype(np.int64)
    table = np.zeros((classes + 1) ** 2, np.int64)
    for first, second in ((codes[1:], codes[:-1]), (codes[:, 1:], codes[:, :-1])):
        apart = first != second
        table += np.bincount(first[apart] * (classes + 1) + second[apart], minlength=len(table))
    square = table.reshape(classes + 1, classes + 1)
    return (square + square.T)[:classes]


def find_bodies(masks: NDArray[np.uint8], nesting: Nesting) -> tuple[NDArray[np.uint8], list[int]]:
    """Connected bodies of the structures of a volume, so that the slices of a body know of each other.

    Args:
        masks: (depth, height, width) consecutive slices.
        nesting: Of the data set.

    Returns:
        (depth, height, width) number of the body from 1, largest first, 0 for none; and the outermost class of each.
    """
    parts: dict[int, NDArray[Any]] = {}
    found: list[tuple[int, int, int]] = []
    for root in sorted(set(nesting.roots.values())):
        parts[root], count = ndimage.label(np.isin(masks, nesting.within(root)))
        areas = np.stack([np.bincount(plane.ravel(), minlength=count + 1) for plane in parts[root]])
        large = np.flatnonzero(areas.max(axis=0)[1:] >= SPECK) + 1
        found.extend((-int(areas[:, part].sum()), root, int(part)) for part in large)
    found = sorted(found)[:MOST_BODIES]
    numbers = np.zeros(masks.shape, np.uint8)
    for number, (_, root, part) in enumerate(found, 1):
        numbers[parts[root] == part] = number
    return numbers, [root for _, root, _ in found]
