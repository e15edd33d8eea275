"""A rule for cleaning predictions, by their connected components, that labelled masks decide; and stray objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.printable import significant
from fewlabel.data.store import UNLABELLED
from fewlabel.scoring.class_contacts import contact_shares, unlikeness
from fewlabel.scoring.connected_components import Pieces, box_of, pieces_of

POSTPROCESS_RULE = (
    "Voxels belong together that touch by a face, an edge or a corner (26 neighbours), within one scan. Where every "
    "labelled training mask has its foreground in one piece, one piece of the predicted foreground is kept: of the "
    "largest and those of at least a quarter of its voxels the one whose classes touch each other and the background "
    "within slices most as they do in these masks, size counting too; a class that every such mask has and this piece "
    "lacks keeps its largest piece elsewhere. Then, of every class that is in one piece "
    "wherever a labelled mask has it, only the largest piece is kept; of every other class no piece smaller, in mm³, "
    "than its smallest labelled one, but the largest always. What is removed becomes background. Specks of a labelled "
    "mask, pieces of at most 4 voxels that together hold less than 1 % of their class in it, keep neither the class "
    "nor the foreground from being in one piece. A class that no mask has decides nothing. If any labelled mask has "
    "voxels to ignore, nothing is removed at all."
)
#: Voxels of a speck, at most, and the share of its class in the mask that all specks together stay below: slips of
#: annotation have 1 to 4 voxels, the smallest real tips of ventricles 5 (decision 0011).
_SPECK, _SPECKS_SHARE = 4, 0.01
#: Volumes that differ by less than this share are equal: they are products of rounded spacings.
_ROUNDING = 1e-6
#: A piece of the foreground may be the one that is kept from this share of the voxels of the largest on, and what the
#: logarithm of this share counts for beside how unlike its contacts are (decision 0011).
_RIVAL, _SIZE_WEIGHT = 0.25, 0.5


@dataclass(frozen=True)
class ComponentRule:
    """What is removed from a prediction, in this order; see :data:`POSTPROCESS_RULE`.

    Attributes:
        foreground: Of all classes together, only one piece is kept.
        largest: Class indices of which only the largest piece is kept.
        least_mm3: Class index → volume in mm³ below which a piece is removed, unless it is the largest of its class.
        contacts: Class index → the share of its boundary within slices along which it touches class 0, 1 and so on, in
            the mean of the labelled masks that have it; it tells which piece of the foreground is kept. Without any the
            largest is.
        always: Class indices that every labelled mask has: keeping one piece of the foreground loses none of them.
    """

    foreground: bool = False
    largest: tuple[int, ...] = ()
    least_mm3: Mapping[int, float] = field(default_factory=dict)
    contacts: Mapping[int, tuple[float, ...]] = field(default_factory=dict)
    always: tuple[int, ...] = ()

    @classmethod
    def decide(cls, masks: Iterable[tuple[NDArray[np.integer], float | None]], classes: Sequence[int]) -> ComponentRule:
        """The rule that these masks decide. It changes none of them, but for specks.

        Args:
            masks: For each labelled scan its (Z, Y, X) class indices, 255 where ignored, and the volume of a voxel in
                mm³; None where it is unknown, and then no piece is too small.
            classes: Class indices, background left out.
        """
        pieces: dict[int, list[float]] = {index: [] for index in classes}
        most: dict[int, int] = dict.fromkeys([0, *classes], 0)
        touched: dict[int, list[NDArray[np.float64]]] = {index: [] for index in classes}
        always = list(classes)
        count = max(classes, default=0) + 1
        for mask, voxel in masks:
            if (mask == UNLABELLED).any():
                # Parts of structures: pieces of theirs may be one where nobody looked.
                return cls()
            real = mask > 0
            for index in classes:
                numbered = pieces_of(mask == index)
                specks = _specks(numbered.sizes)
                real[numbered.box] &= ~np.concatenate([[False], specks])[numbered.numbers]
                most[index] = max(most[index], int((~specks).sum()))
                if not len(numbered.sizes) and index in always:
                    always.remove(index)
                pieces[index] += [float(size) * (voxel or 0.0) for size in numbered.sizes]
            # A speck may be what holds the foreground together.
            most[0] = max(most[0], min(len(pieces_of(mask > 0).sizes), len(pieces_of(real).sizes)))
            shares = contact_shares(mask, count)
            for index in classes:
                if shares[index].any():
                    touched[index].append(shares[index])
        whole = most[0] == 1
        several = whole and sum(map(bool, touched.values())) > 1
        return cls(
            foreground=whole,
            largest=tuple(index for index in classes if most[index] == 1),
            least_mm3={index: min(pieces[index]) for index in classes if most[index] > 1 and min(pieces[index]) > 0},
            # Of one class alone all pieces touch the background and nothing else.
            contacts={index: tuple(np.mean(rows, axis=0).round(6).tolist()) for index, rows in touched.items() if rows}
            if several
            else {},
            always=tuple(always) if several else (),
        )

    @classmethod
    def load(cls, record: Mapping[str, Any]) -> ComponentRule:
        """The rule of a :meth:`record`."""
        least = {int(index): float(volume) for index, volume in record["least_mm3"].items()}
        contacts = {int(index): tuple(map(float, row)) for index, row in record.get("contacts", {}).items()}
        always = tuple(map(int, record.get("always", ())))
        return cls(bool(record["foreground"]), tuple(map(int, record["largest"])), least, contacts, always)

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "foreground": self.foreground,
            "largest": list(self.largest),
            "least_mm3": {str(index): volume for index, volume in self.least_mm3.items()},
            "contacts": {str(index): list(row) for index, row in self.contacts.items()},
            "always": list(self.always),
        }

    def words(self, names: Mapping[int, str]) -> str:
        """What is kept, for people: ``all structures together in one piece; RV in one piece; tumour from 12 mm³ on``.

        Args:
            names: Class index → name.
        """
        called = {index: names.get(index, f"class {index}") for index in (*self.largest, *self.least_mm3)}
        kept = ["all structures together in one piece"] if self.foreground or self.contacts else []
        if self.contacts:
            kept = [f"{kept[0]}, the one most like the labelled masks"]
        single = [called[index] for index in self.largest]
        if single:
            every = " and ".join([", ".join(single[:-1]), single[-1]]) if len(single) > 1 else single[0]
            kept.append(f"{every} in one piece{' each' if len(single) > 1 else ''}")
        for index, volume in self.least_mm3.items():
            kept.append(f"{called[index]} in pieces of {significant(volume)} mm³ or more")
        return "; ".join(kept) or "everything"


@dataclass(frozen=True)
class Removed:
    """What cleaning took of one class: pieces, and their voxels."""

    pieces: int
    voxels: int


def clean(
    mask: NDArray[np.uint8], rule: ComponentRule | None, voxel_mm3: float | None, slice_axis: int = 0
) -> tuple[NDArray[np.uint8], dict[int, Removed]]:
    """Apply a rule to a prediction.

    Args:
        mask: (Z, Y, X) class indices, 0 for background; not changed.
        rule: What to remove; None removes nothing.
        voxel_mm3: Volume of a voxel in mm³; None where it is unknown, and then no piece is too small.
        slice_axis: The axis across the slices that a network was given.

    Returns:
        The cleaned mask, the very same array where nothing was removed, and class index → what was removed of it.
    """
    box = box_of(mask > 0)
    if rule is None or box is None:
        return mask, {}
    kept, removed = mask[box].copy(), dict[int, Removed]()
    if rule.foreground:
        pieces = pieces_of(kept > 0)
        stays = _most_like(kept, pieces, rule.contacts, slice_axis)
        spared = _only_elsewhere(kept, pieces, stays, rule.always)
        _remove(kept, pieces, np.arange(len(pieces.sizes)) != stays, removed, spared)
    for index in rule.largest:
        pieces = pieces_of(kept == index)
        _remove(kept, pieces, ~_largest(pieces), removed)
    for index, least in rule.least_mm3.items():
        if voxel_mm3:
            pieces = pieces_of(kept == index)
            small = pieces.sizes < least / voxel_mm3 * (1 - _ROUNDING)
            _remove(kept, pieces, small & ~_largest(pieces), removed)
    if not removed:
        return mask, {}
    cleaned = mask.copy()
    cleaned[box] = kept
    return cleaned, removed


def stray(predicted: NDArray[np.bool_], wanted: NDArray[np.bool_]) -> Removed:
    """Pieces of a prediction that share no voxel with the true structure, and their voxels.

    Args:
        predicted: (Z, Y, X), boolean.
        wanted: The same shape, boolean.
    """
    pieces = pieces_of(predicted)
    if not len(pieces.sizes):
        return Removed(0, 0)
    touching = np.bincount(pieces.numbers[wanted[pieces.box]], minlength=len(pieces.sizes) + 1)[1:]
    return Removed(int((touching == 0).sum()), int(pieces.sizes[touching == 0].sum()))


def _specks(sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pieces of a class are too small to count, given the voxels of each."""
    small = sizes <= _SPECK
    return np.asarray(small & (sizes[small].sum() < _SPECKS_SHARE * sizes.sum()))


def _largest(pieces: Pieces) -> NDArray[np.bool_]:
    """Which piece is the first of the largest."""
    largest = np.zeros(len(pieces.sizes), dtype=bool)
    if len(largest):
        largest[pieces.sizes.argmax()] = True
    return largest


def _most_like(
    kept: NDArray[np.uint8], pieces: Pieces, contacts: Mapping[int, tuple[float, ...]], slice_axis: int
) -> int:
    """Number of the piece, from 0, whose contacts are most like those of the labelled masks, size counting too."""
    largest = int(pieces.sizes.argmax())
    rivals = np.flatnonzero(pieces.sizes >= _RIVAL * pieces.sizes[largest])
    if not contacts or len(rivals) < 2:
        return largest
    count = max(len(next(iter(contacts.values()))), int(kept.max()) + 1)
    wanted = np.zeros((count, count))
    for index, row in contacts.items():
        wanted[index, : len(row)] = row
    inside = kept[pieces.box]
    costs = []
    for rival in rivals:
        alone = np.where(pieces.numbers == rival + 1, inside, 0)
        unlike = unlikeness(contact_shares(alone, count, slice_axis), wanted, list(contacts))
        costs.append(unlike - _SIZE_WEIGHT * np.log(pieces.sizes[rival] / pieces.sizes[largest]))
    return int(rivals[int(np.argmin(costs))])


def _only_elsewhere(
    kept: NDArray[np.uint8], pieces: Pieces, stays: int, always: Sequence[int]
) -> NDArray[np.bool_] | None:
    """Voxels, in the box of the pieces, of the largest piece of each class that the one which stays lacks."""
    inside, spared = kept[pieces.box], None
    there = set(np.unique(inside[pieces.numbers == stays + 1]).tolist())
    for index in always:
        if index in there or not (own := inside == index).any():
            continue
        found = pieces_of(own)
        largest = np.zeros(own.shape, dtype=bool)
        largest[found.box] = found.numbers == int(found.sizes.argmax()) + 1
        spared = largest if spared is None else spared | largest
    return spared


def _remove(
    kept: NDArray[np.uint8],
    pieces: Pieces,
    goes: NDArray[np.bool_],
    removed: dict[int, Removed],
    spared: NDArray[np.bool_] | None = None,
) -> None:
    """Take the pieces that go out of ``kept``, but for voxels that are spared, and count them."""
    if not goes.any():
        return
    gone = np.concatenate([[False], goes])[pieces.numbers]
    if spared is not None:
        gone &= ~spared
    inside = kept[pieces.box]
    for index in np.unique(inside[gone]):
        # Every piece of a class lies in one piece of the foreground, so it goes as a whole.
        lost = pieces_of(gone & (inside == index)).sizes
        before = removed.get(int(index), Removed(0, 0))
        removed[int(index)] = Removed(before.pieces + len(lost), before.voxels + int(lost.sum()))
    inside[gone] = 0
