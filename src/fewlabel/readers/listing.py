"""The files below a folder, listed once while a reader is chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.artifact.own_files import own_files
from fewlabel.data.io.itk_image import is_scan
from fewlabel.data.mask_names import is_mask_name

#: Folders deeper than this are not looked into.
DEEPEST = 8


@dataclass(frozen=True)
class _Below:
    """Files below a folder, and images among those that were left out, by the artifact they belong to."""

    files: tuple[Path, ...]
    own: dict[str, int]


_listed: ContextVar[dict[Path, _Below] | None] = ContextVar("_listed", default=None)


@contextmanager
def listed_once() -> Iterator[None]:
    """While it lasts, a folder is listed at most once."""
    before = _listed.get()
    token = _listed.set({} if before is None else before)
    try:
        yield
    finally:
        _listed.reset(token)


def files_below(root: Path) -> tuple[Path, ...]:
    """All files below a folder, relative to it and sorted, but hidden ones.

    Links to folders are followed, but for those that lead back to a folder they lie in. Folders that may not be read,
    and those deeper than eight, are passed over. So is what earlier runs made, but for masks by name: those may be
    labels now.
    """
    return _below(root).files


def left_out_below(root: Path) -> list[str]:
    """A line for each artifact below a folder whose images :func:`files_below` passed over."""
    return [
        f"left out, as made by fewlabel: {count} images of {artifact}" for artifact, count in _below(root).own.items()
    ]


def _below(root: Path) -> _Below:
    kept = _listed.get()
    if kept is not None and root in kept:
        return kept[root]
    files: list[Path] = []
    artifact_of: dict[Path, str] = {}
    own: dict[str, int] = {}
    above: dict[Path, frozenset[str]] = {}
    for place, folders, names in os.walk(root, followlinks=True):
        here = Path(place)
        real, within = os.path.realpath(here), above.get(here.parent, frozenset())
        if real in within:
            folders.clear()
            continue
        above[here] = within | {real}
        below = here.relative_to(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if len(below.parts) < DEEPEST else []
        if (artifact := own_files(here, names)) is not None:
            artifact_of |= dict.fromkeys(artifact.files, f"{here} ({artifact.kind})")
        for name in names:
            whose = artifact_of.get(here / name)
            if whose is not None and not is_mask_name(here / name, root):
                own[whose] = own.get(whose, 0) + is_scan(here / name)
            elif not name.startswith("."):
                files.append(below / name)
    listed = _Below(tuple(sorted(files)), {artifact: count for artifact, count in own.items() if count})
    if kept is not None:
        kept[root] = listed
    return listed


def scans_below(root: Path) -> tuple[Path, ...]:
    """The image files among :func:`files_below`."""
    return tuple(path for path in files_below(root) if is_scan(path))
