"""Connected components of masks: a rule for cleaning predictions that labelled masks decide, and stray objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fewlabel.data.store import UNLABELLED

POSTPROCESS_RULE = (
    "Voxels belong together that touch by a face, an edge or a corner (26 neighbours), within one scan. Where every "
    "labelled training mask has its foreground in one piece, only the largest piece of the predicted foreground is "
    "kept; then, of every class that is in one piece wherever a labelled mask has it, only the largest piece; of every "
    "other class no piece smaller, in mm³, than its smallest labelled one, but the largest always. What is removed "
    "becomes background. Specks of a labelled mask, pieces of at most 4 voxels that together hold less than 1 % of "
    "their class in it, keep neither the class nor the foreground from being in one piece. A class that no mask has "
    "decides nothing. If any labelled mask has voxels to ignore, nothing "
    "is removed at all."
)
#: Voxels of a speck, at most, and the share of its class in the mask that all specks together stay below: slips of
#: annotation have 1 to 4 voxels, the smallest real tips of ventricles 5 (decision 0011).
_SPECK, _SPECKS_SHARE = 4, 0.01
#: Volumes that differ by less than this share are equal: they are products of rounded spacings.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class ComponentRule:
    """What is removed from a prediction, in this order; see :data:`POSTPROCESS_RULE`.

    Attributes:
        foreground: Of all classes together, only the largest piece is kept.
        largest: Class indices of which only the largest piece is kept.
        least_mm3: Class index → volume in mm³ below which a piece is removed, unless it is the largest of its class.
    """

    foreground: bool = False
    largest: tuple[int, ...] = ()
    least_mm3: Mapping[int, float] = field(default_factory=dict)

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
        for mask, voxel in masks:
            if (mask == UNLABELLED).any():
                # Parts of structures: pieces of theirs may be one where nobody looked.
                return cls()
            real = mask > 0
            for index in classes:
                found = pieces_of(mask == index)
                specks = _specks(found.sizes)
                real[found.box] &= ~np.concatenate([[False], specks])[found.numbers]
                most[index] = max(most[index], int((~specks).sum()))
                pieces[index] += [float(size) * (voxel or 0.0) for size in found.sizes]
            # A speck may be what holds the foreground together.
            most[0] = max(most[0], min(len(pieces_of(mask > 0).sizes), len(pieces_of(real).sizes)))
        return cls(
            foreground=most[0] == 1,
            largest=tuple(index for index in classes if most[index] == 1),
            least_mm3={index: min(pieces[index]) for index in classes if most[index] > 1 and min(pieces[index]) > 0},
        )

    @classmethod
    def load(cls, record: Mapping[str, Any]) -> ComponentRule:
        """The rule of a :meth:`record`."""
        least = {int(index): float(volume) for index, volume in record["least_mm3"].items()}
        return cls(bool(record["foreground"]), tuple(map(int, record["largest"])), least)

    def record(self) -> dict[str, Any]:
        """JSON-ready values."""
        return {
            "foreground": self.foreground,
            "largest": list(self.largest),
            "least_mm3": {str(index): volume for index, volume in self.least_mm3.items()},
        }

    def words(self, names: Mapping[int, str]) -> str:
        """What is kept, for people, e.g. ``the largest piece of the foreground and of RV; of tumour 12 mm³ or more``.

        Args:
            names: Class index → name.
        """
        called = {index: names.get(index, f"class {index}") for index in (*self.largest, *self.least_mm3)}
        whole = [*(["the foreground"] if self.foreground else []), *(called[index] for index in self.largest)]
        told = [f"the largest piece of {' and of '.join(whole)}"] if whole else []
        for index, volume in self.least_mm3.items():
            told.append(f"of {called[index]} pieces of {volume:{'.3g' if volume < 1000 else '.0f'}} mm³ or more")
        return "; ".join(told) or "everything"


@dataclass(frozen=True)
class Removed:
    """What cleaning took of one class: pieces, and their voxels."""

    pieces: int
    voxels: int


def clean(
    mask: NDArray[np.uint8], rule: ComponentRule | None, voxel_mm3: float | None
) -> tuple[NDArray[np.uint8], dict[int, Removed]]:
    """Apply a rule to a prediction.

    Args:
        mask: (Z, Y, X) class indices, 0 for background; not changed.
        rule: What to remove; None removes nothing.
        voxel_mm3: Volume of a voxel in mm³; None where it is unknown, and then no piece is too small.

    Returns:
        The cleaned mask, the very same array where nothing was removed, and class index → what was removed of it.
    """
    box = _box(mask > 0)
    if rule is None or box is None:
        return mask, {}
    kept, removed = mask[box].copy(), dict[int, Removed]()
    if rule.foreground:
        _remove(kept, kept > 0, 0.0, removed)
    for index in rule.largest:
        _remove(kept, kept == index, 0.0, removed)
    for index, least in rule.least_mm3.items():
        if voxel_mm3:
            _remove(kept, kept == index, least / voxel_mm3 * (1 - _ROUNDING), removed)
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


@dataclass(frozen=True)
class Pieces:
    """Connected components of a mask.

    Attributes:
        box: The smallest box that holds them.
        numbers: In this box, the number of each voxel's component, from 1; 0 outside.
        sizes: (components,) voxels of each.
    """

    box: tuple[slice, ...]
    numbers: NDArray[np.signedinteger]
    sizes: NDArray[np.int64]


def pieces_of(mask: NDArray[np.bool_]) -> Pieces:
    """Components of a boolean mask whose voxels touch by a face, an edge or a corner; it may hold nothing."""
    box = _box(mask)
    if box is None:
        return Pieces((slice(0, 0),) * mask.ndim, np.zeros((0,) * mask.ndim, np.int32), np.zeros(0, np.int64))
    numbers, _ = ndimage.label(mask[box], structure=np.ones((3,) * mask.ndim))
    return Pieces(box, numbers, np.bincount(numbers.ravel())[1:])


def _specks(sizes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pieces of a class are too small to count, given the voxels of each."""
    small = sizes <= _SPECK
    return np.asarray(small & (sizes[small].sum() < _SPECKS_SHARE * sizes.sum()))


def _box(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    found = ndimage.find_objects(mask.view(np.uint8))
    return found[0] if found else None


def _remove(kept: NDArray[np.uint8], mask: NDArray[np.bool_], least: float, removed: dict[int, Removed]) -> None:
    """Take pieces of ``mask`` out of ``kept``: with ``least`` those of fewer voxels, else all; never the largest."""
    pieces = pieces_of(mask)
    if len(pieces.sizes) < 2:
        return
    goes = pieces.sizes < least if least else np.ones(len(pieces.sizes), dtype=bool)
    goes[pieces.sizes.argmax()] = False
    gone = np.concatenate([[False], goes])[pieces.numbers]
    inside = kept[pieces.box]
    for index in np.unique(inside[gone]):
        # Every piece of a class lies in one piece of the foreground, so it goes as a whole.
        lost = pieces_of(gone & (inside == index)).sizes
        before = removed.get(int(index), Removed(0, 0))
        removed[int(index)] = Removed(before.pieces + len(lost), before.voxels + int(lost.sum()))
    inside[gone] = 0
