"""Small pictures of the scans of a data set, by which their poses in the plane are compared: no mask is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fewlabel.data.preallocated_arrays import let_go
from fewlabel.data.preprocess import ScanPreparation
from fewlabel.data.store import PreparedCase, PreparedStore

#: Scans that are compared, at most: pairs grow with the square of it.
MOST_VIEWS = 100
#: Half of the shorter side of a picture, in pixels, at most about.
_HALF_SIDE = 48
#: Correlation of two scans of a subject above which they are phases of one.
_SAME_PLACE = 0.7


@dataclass(frozen=True)
class View:
    """The middle slices of one scan, or of all phases of one, averaged.

    Attributes:
        subject: Whose.
        cases: Ids of the scans it stands for.
        image: (height, width) float32 mean over phases and the middle half of the slices.
        motion: (height, width) float32 mean difference between the phases, or None if there is one.
        box: First and last row, first and last column inside the scan's field of view.
        shrink: Pixels of the prepared grid to a pixel of the picture.
    """

    subject: str
    cases: tuple[str, ...]
    image: NDArray[np.float32]
    motion: NDArray[np.float32] | None
    box: tuple[float, float, float, float]
    shrink: int


@dataclass(frozen=True)
class _Middle:
    """The middle slices of one scan, (slices, height, width), shrunk, channels averaged; ``shape`` is of the whole."""

    case: str
    slices: NDArray[np.float32]
    record: Mapping[str, Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the prepared grid."""
        return self.shape[-2], self.shape[-1]


def store_views(store: PreparedStore) -> list[View]:
    """Pictures of all scans whose subject may be looked at: those of the test part, or of no part, are not read.

    Args:
        store: Prepared store. Of more than 100 scans those with a label come first, as long as they are the fewer,
            and the rest is spread evenly.
    """
    parts = store.split["parts"]
    allowed = {subject for part in ("pretrain", "train", "validation") for subject in parts.get(part, [])}
    groups: dict[str, list[PreparedCase]] = {}
    for case in store.cases:
        if case.subject in allowed:
            groups.setdefault(case.subject, []).append(case)
    annotated = {case.subject for cases in groups.values() for case in cases if case.label is not None}
    views: list[View] = []
    for at in evenly([subject in annotated for subject in groups], MOST_VIEWS):
        subject = list(groups)[at]
        arrays = [np.asarray(store.images[case.start : case.stop]) for case in groups[subject]]
        rows = zip(groups[subject], arrays, strict=True)
        views.extend(subject_views(subject, [(case.id, array.swapaxes(0, 1), case.record) for case, array in rows]))
        let_go(store.images)
    return [views[at] for at in evenly([view.subject in annotated for view in views], MOST_VIEWS)]


def evenly(first: Sequence[bool], most: int) -> list[int]:
    """At most so many places of a list, in order: those marked first, where these are the fewer; the rest evenly."""
    marked = [at for at, mark in enumerate(first) if mark]
    if 2 * len(marked) > most:
        marked = []
    rest = [at for at in range(len(first)) if at not in set(marked)]
    room = most - len(marked)
    if len(rest) > room:
        rest = [rest[int(at)] for at in np.linspace(0, len(rest) - 1, room).round()]
    return sorted([*marked, *rest])


def subject_views(
    subject: str, scans: Iterable[tuple[str, NDArray[Any] | ScanPreparation, Mapping[str, Any]]]
) -> list[View]:
    """Pictures of one subject's scans; phases of the same stack make one.

    Args:
        subject: Its id.
        scans: Id, array (channels, slices, height, width) in [0, 1] or what makes it, and record of preparation of
            each; one is asked for after the other.
    """
    open_groups: list[list[_Middle]] = []
    for case, array, record in scans:
        scan = _middle(case, array, record)
        # What it was made of is let go of before the next is read.
        del array
        for group in open_groups:
            if _phases(group[0], scan):
                group.append(scan)
                break
        else:
            open_groups.append([scan])
    return [_view(subject, group) for group in open_groups]


def _middle(case: str, array: NDArray[Any] | ScanPreparation, record: Mapping[str, Any]) -> _Middle:
    count, height, width = array.shape[1:]
    shrink = _shrink((height, width))
    rows, columns = height // shrink, width // shrink
    top, left = (height - rows * shrink) // 2, (width - columns * shrink) // 2
    middle = range(count // 4, max(count - count // 4, 1))
    pooled = np.empty((len(middle), rows, columns), dtype=np.float32)
    for place, at in enumerate(middle):
        kept = array.slab(at, at + 1) if isinstance(array, ScanPreparation) else array[:, at : at + 1]
        cut = kept.astype(np.float32).mean(axis=0)[:, top : top + rows * shrink, left : left + columns * shrink]
        pooled[place] = cut.reshape(1, rows, shrink, columns, shrink).mean(axis=(2, 4))[0]
    return _Middle(case, pooled, record, tuple(array.shape))


def _shrink(size: tuple[int, int]) -> int:
    return max(1, round(min(size) / 2 / _HALF_SIDE))


def _phases(first: _Middle, second: _Middle) -> bool:
    """Whether two scans are the same stack at another time: the same voxels, and nearly the same picture."""
    geometry = [[scan.record.get(key) for key in ("shape", "spacing", "axes", "flips")] for scan in (first, second)]
    if geometry[0] != geometry[1] or first.shape != second.shape:
        return False
    rows, columns = _inside(first)
    pictures = [scan.slices.mean(axis=0)[rows, columns].ravel() for scan in (first, second)]
    pictures = [picture - picture.mean() for picture in pictures]
    norm = float(np.linalg.norm(pictures[0]) * np.linalg.norm(pictures[1]))
    return norm > 0 and float(pictures[0] @ pictures[1]) > _SAME_PLACE * norm


def _view(subject: str, phases: Sequence[_Middle]) -> View:
    mean, motion = phases[0].slices, None
    if len(phases) > 1:
        stacks = np.stack([phase.slices for phase in phases])
        mean = stacks.mean(axis=0)
        # Blurred slice by slice: what moves in one slice only is noise of the same strength in all.
        differences = 2 * np.abs(stacks - mean).mean(axis=0)
        motion = _framed(ndimage.gaussian_filter(differences, (0, 2, 2)).mean(axis=0), phases[0])
        motion = motion if motion.max() > 0 else None
    rows, columns = _inside(phases[0])
    box = (float(rows.start), float(rows.stop - 1), float(columns.start), float(columns.stop - 1))
    cases = tuple(phase.case for phase in phases)
    size = phases[0].size
    return View(subject, cases, _framed(mean.mean(axis=0), phases[0]), motion, box, _shrink(size))


def _framed(picture: NDArray[np.floating[Any]], scan: _Middle) -> NDArray[np.float32]:
    """The picture with what lies outside of the field of view taken from its edge: no step that could be matched."""
    rows, columns = _inside(scan)
    height, width = picture.shape
    pad = ((rows.start, height - rows.stop), (columns.start, width - columns.stop))
    return np.pad(picture[rows, columns], pad, mode="edge").astype(np.float32)


def _inside(scan: _Middle) -> tuple[slice, slice]:
    """Rows and columns of the shrunk picture that the scan fills altogether."""
    shrink, pooled = _shrink(scan.size), scan.slices.shape[1:]
    slices = []
    for name, pixels, whole in zip(("rows", "columns"), pooled, scan.size, strict=True):
        axis = scan.record.get(name)
        low, high = (0, whole) if axis is None else (-axis["offset"], axis["resampled"] - axis["offset"])
        cut = (whole - pixels * shrink) // 2
        first = min(max(0, -((cut - max(low, 0)) // shrink)), pixels - 1)
        last = max(min(pixels, (min(high, whole) - cut) // shrink), first + 1)
        slices.append(slice(first, last))
    return slices[0], slices[1]
