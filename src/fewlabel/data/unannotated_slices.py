"""Slices of a mask without any label: true background, or slices that nobody annotated.

A structure that lies in one piece does not vanish for a slice and come back in the same place. So slices between
annotated ones are taken for unannotated where all of this holds, for a scan:

* every gap lies between two slices whose structures overlap in the plane by half of the smaller one or more;
* with the gaps closed, all that is annotated is one piece (26 neighbours);
* the empty slices are a third or more of those from the first to the last annotated one;
* there are two or more gaps, or half of all annotated scans, and two at least, fulfil what stands above.

Where annotated slices follow each other in equal steps, such as every second one, nobody looked at the slices less than
a step beyond the first and the last either: they are left out, too.

Of a volume made of pictures, slices without a mask picture are left out, and empty pictures are background.

Everything else is background, as it stands in the mask; ``check`` and ``prepare`` say what was taken for what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: What slices without any label are; ``auto`` follows the rule above.
EmptySlices = Literal["auto", "background", "between", "all"]
_OVERLAP, _SHARE, _GAPS, _SCANS = 0.5, 1 / 3, 2, 0.5
_MOST_NAMED = 3


@dataclass(frozen=True)
class Annotated:
    """Which slices of a mask along one axis hold a label.

    Attributes:
        count: Slices.
        filled: Those with a label, ascending.
        continued: Whether the structures go on across every gap, in one piece; False without a gap.
        without: Slices that have no mask file, where others have.
    """

    count: int
    filled: tuple[int, ...]
    continued: bool
    without: tuple[int, ...] = ()

    @property
    def between(self) -> tuple[int, ...]:
        """Empty slices between the first and the last with a label; none that have no mask file."""
        if not self.filled:
            return ()
        held = {*self.filled, *self.without}
        return tuple(at for at in range(self.filled[0], self.filled[-1]) if at not in held)

    @property
    def gaps(self) -> int:
        """Runs of empty slices between those with a label."""
        return int((np.diff(self.filled) > 1).sum()) if self.filled else 0

    @property
    def empty(self) -> tuple[int, ...]:
        """All empty slices but those without a mask file; none where the whole mask is empty."""
        held = {*self.filled, *self.without}
        return tuple(at for at in range(self.count) if at not in held) if self.filled else ()

    @property
    def beyond(self) -> tuple[int, ...]:
        """Slices less than a step before the first or after the last with a label, if these have equal steps."""
        steps = set(np.diff(self.filled).tolist())
        if len(self.filled) < 3 or len(steps) != 1:
            return ()
        reach = steps.pop() - 1
        before = range(max(0, self.filled[0] - reach), self.filled[0])
        after = range(self.filled[-1] + 1, min(self.count, self.filled[-1] + 1 + reach))
        return (*before, *after)

    @property
    def sparse(self) -> bool:
        """Whether the structures cannot have vanished in the gaps, and the gaps are no rare slip.

        Where slices without a mask file say what nobody annotated, an empty mask says that nothing is there.
        """
        span = self.filled[-1] - self.filled[0] + 1 if self.filled else 0
        return self.continued and not self.without and len(self.between) >= _SHARE * span


def annotated_slices(mask: NDArray[np.integer[Any]]) -> tuple[Annotated, Annotated, Annotated]:
    """Which slices of a mask (z, y, x) hold a label, along each axis."""
    z, y, x = (_along(mask, axis) for axis in range(3))
    return (z, y, x)


def unannotated(
    scans: Mapping[str, Annotated], mode: EmptySlices = "auto"
) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """The slices of each scan that are to be left out, and what to say of them.

    Args:
        scans: Case → its slices, along the data set's slice axis.
        mode: ``background``: none; ``between``: empty ones between those with a label; ``all``: all empty ones of masks
            that hold a label; ``auto``: those between, by the rule of this module. All but ``background`` leave out
            slices without a mask file.
    """
    lacking = {case: scan.without for case, scan in scans.items() if scan.without}
    empty, notes = _empty_slices(scans, mode)
    if lacking and mode == "background":
        notes = [f"no mask file for {_counted(lacking, 'slice')}: background, as empty_slices={mode} says"]
        return {}, notes
    left_out = {
        case: tuple(sorted((*lacking.get(case, ()), *empty.get(case, ()))))
        for case in scans
        if case in lacking or case in empty
    }
    if lacking:
        notes.insert(
            0,
            f"no mask file for {_counted(lacking, 'slice')}, but for others of the same scan: left out of training and "
            "scoring. If no file means that nothing is there, empty_slices=background takes them for background",
        )
    return left_out, notes


def _empty_slices(scans: Mapping[str, Annotated], mode: EmptySlices) -> tuple[dict[str, tuple[int, ...]], list[str]]:
    """The empty slices of masks that are to be left out, but those without a mask file; and what to say of them."""
    annotated = {case: scan for case, scan in scans.items() if scan.filled}
    if mode == "background":
        return {}, []
    if mode in ("between", "all"):
        asked = {case: scan.between if mode == "between" else scan.empty for case, scan in annotated.items()}
        asked = {case: slices for case, slices in asked.items() if slices}
        return asked, [f"{_counted(asked)} are left out, as empty_slices={mode} says"] if asked else []
    sparse = {case: scan for case, scan in annotated.items() if scan.sparse}
    common = len(sparse) >= max(2, _SCANS * sum(len(scan.filled) > 1 for scan in annotated.values()))
    left_out = {
        case: tuple(sorted((*scan.between, *scan.beyond)))
        for case, scan in sparse.items()
        if common or scan.gaps >= _GAPS
    }
    kept = {
        case: scan.between
        for case, scan in annotated.items()
        if scan.between and not scan.without and case not in left_out
    }
    notes = []
    if left_out:
        notes.append(
            f"{_counted(left_out)} lie between annotated ones, or next to them in the same rhythm, where the "
            "structures cannot vanish: they are left out of training and scoring; empty_slices=background takes them "
            "for background"
        )
    if kept:
        notes.append(
            f"{_counted(kept)} lie between annotated ones and are taken for background; empty_slices=between leaves "
            "them out, if nobody annotated them"
        )
    return left_out, notes


def _along(mask: NDArray[np.integer[Any]], axis: int) -> Annotated:
    filled = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
    closed = len(filled) < 2 or filled[-1] - filled[0] + 1 == len(filled)
    continued = not closed and _continued(np.moveaxis(mask, axis, 0), filled)
    return Annotated(mask.shape[axis], tuple(filled.tolist()), continued)


def _continued(mask: NDArray[np.integer[Any]], filled: NDArray[np.int64]) -> bool:
    held = mask[filled] != 0
    for at in np.flatnonzero(np.diff(filled) > 1):
        before, after = held[at], held[at + 1]
        if (before & after).sum() < _OVERLAP * min(before.sum(), after.sum()):
            return False
    return int(ndimage.label(held, np.ones((3, 3, 3)))[1]) == 1


def _counted(slices: Mapping[str, Sequence[int]], what: str = "empty slice") -> str:
    """``12 empty slices of 4 masks (a, b, c, …)``."""
    names = ", ".join(list(slices)[:_MOST_NAMED]) + (", …" if len(slices) > _MOST_NAMED else "")
    masks = "1 mask" if len(slices) == 1 else f"{len(slices)} masks"
    count = sum(map(len, slices.values()))
    return f"{f'1 {what}' if count == 1 else f'{count} {what}s'} of {masks} ({names})"
