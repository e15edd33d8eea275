"""The slices of a series, parted into volumes: by how they lie, and by what sets slices at one place apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.io.dicom.headers import Plane

#: How far unit vectors of slices of one volume may be apart.
_TURNED = 2e-3
#: Share of the distance of slices up to which two lie at one place; mm where their headers do not say that distance.
_SAME_PLACE = 0.02
#: Marks that are moments: slices of one moment do not share the value, so that their order counts.
MOMENTS = ("trigger time", "acquisition time", "content time")
_ORDER = "order"


@dataclass(frozen=True)
class Part:
    """Slices of one volume.

    Attributes:
        planes: In the order in which they lie, along the cross product of the directions of rows and columns.
        marks: What sets it apart from the other volumes of its series: how it is called → value.
        doubled: Places, along that direction in mm, at which it has several slices that nothing sets apart.
    """

    planes: tuple[Plane, ...]
    marks: dict[str, Hashable] = field(default_factory=dict)
    doubled: tuple[float, ...] = ()


def split_planes(planes: Sequence[Plane], *, pictures: bool = False) -> list[Part]:
    """The volumes that slices of one series make.

    Slices that differ in size, in distance of pixels or in direction are of different volumes. Where several lie at one
    place, they are of as many volumes, told apart by the first of their marks that gives each volume a slice at every
    place; or by their order in time, or in the series, where they are as many at every place. Slices without a place
    are together, or, of pictures that lie nowhere, a volume for each file.

    Args:
        planes: The slices.
        pictures: Whether they are projections and the like.
    """
    nowhere: dict[Path | None, list[Plane]] = defaultdict(list)
    groups: list[list[Plane]] = []
    for plane in planes:
        if plane.position is None or plane.orientation is None:
            nowhere[plane.file if pictures else None].append(plane)
            continue
        same = next((group for group in groups if _alike(group[0], plane)), None)
        if same is None:
            groups.append([plane])
        else:
            same.append(plane)
    parts = [Part(tuple(frames)) for frames in nowhere.values()]
    for group in groups:
        for stack in _stacks(group):
            parts.extend(_split(stack, {}))
    return parts


def offsets_of(planes: Sequence[Plane]) -> NDArray[np.float64]:
    """Where slices of one direction lie along their normal, in mm."""
    positions = np.array([plane.position for plane in planes], dtype=np.float64)
    return positions @ normal_of(planes[0])


def normal_of(plane: Plane) -> NDArray[np.float64]:
    """Unit vector from a slice to the next one, if its axes are at right angles."""
    axes = np.array(plane.orientation, dtype=np.float64).reshape(2, 3)
    normal = np.cross(axes[0], axes[1])
    length = float(np.linalg.norm(normal))
    # Axes that are none are refused where the volume is laid out.
    return normal / length if length else normal


def _alike(first: Plane, second: Plane) -> bool:
    turned = np.abs(np.subtract(first.orientation or (), second.orientation or ())).max()
    if first.shape != second.shape or turned > _TURNED:
        return False
    if first.spacing is None or second.spacing is None:
        return first.spacing == second.spacing
    return bool(np.allclose(first.spacing, second.spacing, rtol=1e-3))


def _stacks(group: list[Plane]) -> list[list[Plane]]:
    """Slices beside each other taken apart, such as stations of a table that moved."""
    offsets = offsets_of(group)
    positions = np.array([plane.position for plane in group])
    aside = positions - offsets[:, None] * normal_of(group[0])
    near = _same_place(group)
    order = np.argsort(offsets, kind="stable")
    beside = any(
        abs(offsets[one] - offsets[other]) < near and np.abs(aside[one] - aside[other]).max() > near
        for one, other in pairwise(order)
    )
    if not beside:
        return [group]
    room = min(group[0].spacing or (1.0,)) / 2
    stacks: list[tuple[NDArray[np.float64], list[Plane]]] = []
    for plane, where in zip(group, aside, strict=True):
        stack = next((slices for place, slices in stacks if np.abs(place - where).max() < room), None)
        if stack is None:
            stacks.append((where, [plane]))
        else:
            stack.append(plane)
    return [slices for _, slices in stacks]


def _split(planes: list[Plane], marks: dict[str, Hashable]) -> list[Part]:
    offsets = offsets_of(planes)
    order = sorted(range(len(planes)), key=lambda index: (offsets[index], _turn(planes[index])))
    planes = [planes[index] for index in order]
    places = _places(offsets[order], _same_place(planes))
    counts = Counter(places)
    if len(counts) == len(planes):
        return [Part(tuple(planes), marks)]
    names = list(dict.fromkeys(name for plane in planes for name in plane.marks))
    for whole in (True, False):
        for name in names:
            groups: dict[Hashable, list[int]] = defaultdict(list)
            for index, plane in enumerate(planes):
                groups[plane.marks.get(name)].append(index)
            if len(groups) > 1 and all(_sound(group, places, counts, whole=whole) for group in groups.values()):
                parts = sorted(groups.items(), key=lambda item: _sortable(item[0]))
                return [
                    part
                    for rank, (value, group) in enumerate(parts, start=1)
                    for part in _split([planes[index] for index in group], {**marks, **_mark(name, value, rank)})
                ]
        if whole and len(set(counts.values())) == 1 and (ranked := _ranked(planes, places, marks)):
            return ranked
    doubled = sorted({float(np.round(offsets[order][places.index(place)], 3)) for place in counts if counts[place] > 1})
    return [Part(tuple(planes), marks, tuple(doubled))]


def _sound(group: list[int], places: list[int], counts: Counter[int], *, whole: bool) -> bool:
    """Whether slices with one value of a mark are volumes: one or several at every place, or at most one at each."""
    own = Counter(places[index] for index in group)
    if whole:
        return len(own) == len(counts) and len(set(own.values())) == 1
    return max(own.values()) == 1


def _ranked(planes: list[Plane], places: list[int], marks: dict[str, Hashable]) -> list[Part]:
    """Volumes by the order in time of the slices at each place; none where times do not differ at every place."""
    at: dict[int, list[Plane]] = defaultdict(list)
    for plane, place in zip(planes, places, strict=True):
        at[place].append(plane)
    for name in (*MOMENTS, _ORDER):
        if all(len({_moment(plane, name) for plane in group}) == len(group) for group in at.values()):
            sorted_groups = [sorted(group, key=lambda plane: _moment(plane, name)) for group in at.values()]
            count = len(sorted_groups[0])
            return [
                Part(tuple(group[rank] for group in sorted_groups), {**marks, _named(name): rank + 1})
                for rank in range(count)
            ]
    return []


def _mark(name: str, value: Hashable, rank: int) -> dict[str, Hashable]:
    """What sets a volume apart; of moments their rank, as a time of the day is nobody's business."""
    return {_named(name): rank} if name in MOMENTS else {name: value}


def _named(name: str) -> str:
    return "phase" if name == "trigger time" else "time point"


def _moment(plane: Plane, name: str) -> float:
    """A time of a slice; the same for all that do not say it."""
    if name == _ORDER:
        return float(plane.number or 0) + plane.frame / plane.frames
    value = plane.marks.get(name)
    text = value[0] if isinstance(value, tuple) and value else ""
    try:
        return float(text)
    except ValueError:
        return -1.0


def _same_place(planes: Sequence[Plane]) -> float:
    """Distance in mm from which two slices lie at two places."""
    return _SAME_PLACE * (planes[0].thickness or 1.0)


def _places(offsets: NDArray[np.float64], near: float) -> list[int]:
    """Number of the place of each slice; ``offsets`` are sorted."""
    steps = np.diff(offsets, prepend=offsets[0]) > near
    return [int(place) for place in np.cumsum(steps)]


def _turn(plane: Plane) -> tuple[int, int, str]:
    return (plane.number or 0, plane.frame, str(plane.file))


def _sortable(value: Hashable) -> tuple[int, float, str]:
    """Numbers by size, before texts."""
    text = "\\".join(map(str, value)) if isinstance(value, tuple) else str(value)
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
