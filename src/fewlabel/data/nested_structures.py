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
        labels = [label]
        for one in labels:
            labels.extend(child for child, parent in self.parents.items() if parent == one)
        return labels

    def depth(self, label: int) -> int:
        """How many classes lie about this one."""
        return 1 + self.depth(self.parents[label]) if label in self.parents else 0


def find_nesting(masks: Iterable[NDArray[np.uint8]], classes: int) -> Nesting:
    """The nesting that most labelled slices show.

    Args:
        masks: Each (height, width), class index or 255.
        classes: Classes with background.
    """
    measured = [(np.bincount(mask.ravel(), minlength=256)[:classes], _contacts(mask, classes)) for mask in masks]
    areas = np.stack([counts for counts, _ in measured])
    touching = np.stack([sides for _, sides in measured])
    parents: dict[int, int] = {}
    # A class that was found to hold another is looked at again with it, from outside.
    for _ in range(1, classes):
        before = len(parents)
        for label in sorted(set(range(1, classes)) - set(parents)):
            around = _around(label, Nesting(parents, {}).within(label), areas, touching)
            if around is not None:
                parents[label] = around
        if len(parents) == before:
            break
    return Nesting(parents, {label: _outermost(label, parents) for label in range(1, classes)})


def _around(label: int, within: list[int], areas: NDArray[np.int64], touching: NDArray[np.int64]) -> int | None:
    """The class that most slices show about a class and what lies in it."""
    shown = areas[:, label] >= SPECK
    sides = touching[shown][:, within].sum(axis=1)
    sides[:, within] = 0
    enclosed = (sides >= ENCLOSED * np.maximum(sides.sum(axis=1, keepdims=True), 1)).sum(axis=0)
    best = 1 + int(enclosed[1 : areas.shape[1]].argmax())
    return best if enclosed[best] * 2 > shown.sum() else None


def _outermost(label: int, parents: dict[int, int]) -> int:
    while label in parents:
        label = parents[label]
    return label


def _contacts(mask: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """(classes, classes + 1): sides of the pixels of each class that touch each class, last what has no label.

    Beyond the border of the image nothing has a label: what is cut off there may go on.
    """
    codes = np.pad(np.where(mask < classes, mask, classes), 1, constant_values=classes).astype(np.int64)
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
    bodies: list[tuple[int, int, int]] = []
    for root in sorted(set(nesting.roots.values())):
        parts[root], count = ndimage.label(np.isin(masks, nesting.within(root)))
        areas = np.stack([np.bincount(plane.ravel(), minlength=count + 1) for plane in parts[root]])
        large = np.flatnonzero(areas.max(axis=0)[1:] >= SPECK) + 1
        bodies.extend((-int(areas[:, part].sum()), root, int(part)) for part in large)
    bodies = sorted(bodies)[:MOST_BODIES]
    numbers = np.zeros(masks.shape, np.uint8)
    for number, (_, root, part) in enumerate(bodies, 1):
        numbers[parts[root] == part] = number
    return numbers, [root for _, root, _ in bodies]
