"""Data sets of a known layout that lie one or two folders below the folder that was given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from fewlabel.core.errors import Fault
from fewlabel.readers.listing import scans_below

if TYPE_CHECKING:
    from fewlabel.readers.base import Match, Reader

#: Such as nnUNet_raw/Dataset001_Heart.
_DEEPEST = 2
_MOST_SHOWN = 5


@dataclass(frozen=True)
class DataSetInside:
    """A folder below another that is a data set of its own.

    Attributes:
        place: The folder.
        reader: Id of the reader that fits it best.
        match: How well.
    """

    place: Path
    reader: str
    match: Match


def data_sets_inside(
    root: Path, kinds: Mapping[str, type[Reader]], match: Callable[[type[Reader], Path], Match], lowest: float
) -> list[DataSetInside]:
    """The data sets in the folders of a folder, of those that readers know by their :attr:`Reader.markers`.

    Args:
        root: The folder that was given.
        kinds: Readers by id.
        match: How well a reader fits a folder.
        lowest: The least score that counts.
    """
    level = [root]
    for _ in range(_DEEPEST):
        level = [folder for parent in level for folder in _folders(parent)]
        inside = []
        for place in level:
            names = _names(place)
            fitting = [
                DataSetInside(place, name, match(kind, place))
                for name, kind in kinds.items()
                if any(fnmatchcase(each, marker) for marker in kind.markers for each in names)
            ]
            best = max(fitting, key=lambda each: each.match.score, default=None)
            if best is not None and best.match.score >= lowest:
                inside.append(best)
        if inside:
            return inside
    return []


def which_one(root: Path, inside: list[DataSetInside]) -> Fault | None:
    """What to ask where a folder holds several data sets, or images beside the one that it holds; None otherwise."""
    shown = ", ".join(f"{each.place.relative_to(root)} ({each.reader})" for each in inside[:_MOST_SHOWN])
    if len(inside) > 1:
        more = ", …" if len(inside) > _MOST_SHOWN else ""
        problem = f"holds {len(inside)} data sets: {shown}{more}"
        return Fault(problem, str(root), f"Give one of them, such as {inside[0].place}")
    within = inside[0].place.relative_to(root)
    beside = [path for path in scans_below(root) if not path.is_relative_to(within)]
    if not beside:
        return None
    problem = f"holds the data set {shown} and other images beside it ({len(beside)}), such as {beside[0]}"
    remedy = f"Give {inside[0].place}, or reader=folders for all as images with masks by name"
    return Fault(problem, str(root), remedy)


def _folders(parent: Path) -> list[Path]:
    return [parent / name for name in _names(parent) if not name.startswith(".") and (parent / name).is_dir()]


def _names(folder: Path) -> list[str]:
    """What is in a folder; nothing where it may not be read, which others name."""
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
