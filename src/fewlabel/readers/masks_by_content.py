"""Masks that no name tells from images, told by what is in them: few whole numbers on the grid of a sibling."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.geometry import Geometry, grid_faults
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.readers.image_names import NamedFile, split_channel, understood

#: A mask holds at most so many values; an image more.
_MOST_VALUES = 64
#: Scans of which every kind of file is looked at.
_SAMPLE = 3
#: Files of a scan are of at most so many kinds.
_MOST_KINDS = 8
_ENDING = re.compile(r"(?P<base>.+?)[ _\-.]+(?P<kind>[^ _\-.]*[^\W\d_][^ _\-.]*)$")
#: Share of the files that are of a kind that scans with several files have.
_HELD = 0.8
#: What files of one scan have in common, and what sets one of them apart.
_Split = tuple[tuple[str, ...], str]
#: Folders and name of a scan.
Placement = tuple[tuple[str, ...], str]


@dataclass(frozen=True)
class _Layout:
    """One way to see which files are of one scan.

    Attributes:
        groups: What files of a scan have in common → kind → file.
        placed: Folders and name of a scan, from what its files have in common.
    """

    groups: Mapping[tuple[str, ...], Mapping[str, Path]]
    placed: Callable[[tuple[str, ...]], Placement]


def roles_by_content(files: Sequence[Path], root: Path) -> tuple[dict[Path, NamedFile], tuple[str, ...]]:
    """What each file is where no name says so, and the kinds of files that are masks; empty where none are.

    Files are of one scan that have one name but for the format (``p1.jpg``, ``p1.png``), lie in one folder
    (``p1/Bild``, ``p1/Herz``), have one name in several folders (``Daten/p1``, ``Herz/p1``), or names that begin alike
    (``p1``, ``p1_Herz``). Of three scans all are read: a kind of file is a mask if it holds at most 64 values, all of
    them whole numbers, each time, and lies on the grid of another that does not.

    Args:
        files: Images, relative to ``root``.
        root: Folder of the data set.
    """
    # Files that count channels are images.
    for layout in _layouts([path for path in files if not _counts_channels(path)]):
        masks = _mask_kinds(layout, root)
        if masks:
            return _roles(layout, masks), tuple(sorted(masks))
    return {}, ()


def _counts_channels(path: Path) -> bool:
    parts = split_channel(scan_stem(path))
    return parts is not None and parts[1].isdigit()


def _layouts(files: Sequence[Path]) -> Iterable[_Layout]:
    """Ways in which files are of scans, some with several files each, of few kinds that come again."""
    bases_of: dict[str, set[str]] = defaultdict(set)
    for path in files:
        if (match := _ENDING.match(scan_stem(path))) is not None:
            bases_of[match["kind"]].add(match["base"])
    endings = {kind for kind, bases in bases_of.items() if len(bases) > 1} or set(bases_of)
    stems = Counter((path.parent, scan_stem(path)) for path in files)
    ways: tuple[tuple[Callable[[Path], _Split | None], Callable[[tuple[str, ...]], Placement]], ...] = (
        (lambda path: _of_one_stem(path, stems), lambda common: (common[:-1], common[-1])),
        (_in_one_folder, lambda common: (common, "")),
        (_of_one_name, lambda common: (common[:-1], common[-1])),
        (lambda path: _of_one_beginning(path, endings), lambda common: (common[:-1], common[-1])),
    )
    for split, placed in ways:
        groups: dict[tuple[str, ...], dict[str, Path]] = defaultdict(dict)
        for path in files:
            if (parts := split(path)) is not None:
                groups[parts[0]][parts[1]] = path
        several = [group for group in groups.values() if len(group) > 1]
        kinds = {kind for group in several for kind in group}
        again = all(2 * sum(kind in group for group in several) >= len(several) for kind in kinds)
        held = sum(kind in kinds for group in groups.values() for kind in group)
        if 1 < len(kinds) <= _MOST_KINDS and again and held >= _HELD * len(files):
            yield _Layout(groups, placed)


def _of_one_stem(path: Path, stems: Mapping[tuple[Path, str], int]) -> _Split | None:
    stem = scan_stem(path)
    return ((*path.parent.parts, stem), path.name.removeprefix(stem)) if max(stems.values()) > 1 else None


def _in_one_folder(path: Path) -> _Split | None:
    stem = scan_stem(path)
    match = _ENDING.match(stem)
    return (path.parent.parts, match["kind"] if match else stem) if path.parent.parts else None


def _of_one_name(path: Path) -> _Split | None:
    folders = path.parent.parts
    return ((*folders[:-1], scan_stem(path)), folders[-1]) if folders else None


def _of_one_beginning(path: Path, kinds: Set[str]) -> _Split:
    stem = scan_stem(path)
    match = _ENDING.match(stem)
    if match is None or match["kind"] not in kinds:
        return (*path.parent.parts, stem), ""
    return (*path.parent.parts, match["base"]), match["kind"]


def _mask_kinds(layout: _Layout, root: Path) -> set[str]:
    """Kinds that are masks in all of some scans; empty where none or all are."""
    several = [group for group in layout.groups.values() if len(group) > 1]
    few: dict[str, list[bool]] = defaultdict(list)
    plain: set[str] = set()
    for group in several[:: max(1, len(several) // _SAMPLE)][:_SAMPLE]:
        looks = {kind: _look(root / path) for kind, path in group.items()}
        images = [(kind, look) for kind, look in looks.items() if look is not None and not look.few]
        for kind, look in looks.items():
            on_grid = look is not None and any(
                not grid_faults(root / group[other], image.grid, root / group[kind], look.grid)
                for other, image in images
            )
            few[kind].append(look is not None and look.few and on_grid)
            plain.update([kind] if look is not None and look.several else [])
    # A kind whose files are of one value each says nothing.
    masks = {kind for kind, verdicts in few.items() if all(verdicts) and kind in plain}
    return masks if masks != set(few) else set()


@dataclass(frozen=True)
class _Look:
    """What is in a file: its grid, whether it holds few values, all whole and none below 0, and more than one."""

    grid: Geometry
    few: bool
    several: bool


def _look(path: Path) -> _Look | None:
    """What is in an image; None where it cannot be read."""
    try:
        state = path.stat()
    except OSError:
        return None
    return _look_at(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _look_at(path: Path, size: int, changed: int) -> _Look | None:  # noqa: ARG001  # size and time are of the key
    try:
        volume = read_volume(path)
    except DataError:
        return None
    values = [_values(channel) for channel in volume.array]
    few = all(
        len(each) <= _MOST_VALUES and bool((each == np.rint(each)).all()) and bool(each.min(initial=0) >= 0)
        for each in values
    )
    return _Look(volume.geometry, few, any(len(each) > 1 for each in values))


def _values(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """The values that an image holds, or those of its beginning where these are too many for a mask."""
    values = np.unique(array.ravel()[: 1 << 16])
    return values if len(values) > _MOST_VALUES else np.unique(array)


def _roles(layout: _Layout, masks: set[str]) -> dict[Path, NamedFile]:
    roles: dict[Path, NamedFile] = {}
    for common, group in layout.groups.items():
        home, name = layout.placed(common)
        images = [kind for kind in group if kind not in masks]
        for kind, path in group.items():
            own = understood(path)
            place = understood(Path(*home, "x")).home
            if kind in masks:
                roles[path] = replace(own, home=place, name=name, bare=name, mask=True, by_name=True, word=kind)
            elif len(images) == 1:
                roles[path] = replace(own, home=place, name=name or own.name, bare=name)
            else:
                roles[path] = replace(own, home=place)
    return roles
