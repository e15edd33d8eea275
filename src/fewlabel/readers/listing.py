"""The files below a folder, listed once while a reader is chosen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from fewlabel.data.io.itk_image import is_scan

#: Folders deeper than this are not looked into.
DEEPEST = 8
_listed: ContextVar[dict[Path, tuple[Path, ...]] | None] = ContextVar("_listed", default=None)


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
    """All files below a folder, relative to it and sorted, but hidden ones; links to folders are followed.

    Folders that may not be read, and those deeper than eight, are passed over.
    """
    kept = _listed.get()
    if kept is not None and root in kept:
        return kept[root]
    files: list[Path] = []
    for place, folders, names in os.walk(root, followlinks=True):
        below = Path(place).relative_to(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if len(below.parts) < DEEPEST else []
        files.extend(below / name for name in names if not name.startswith("."))
    found = tuple(sorted(files))
    if kept is not None:
        kept[root] = found
    return found


def scans_below(root: Path) -> tuple[Path, ...]:
    """The image files among :func:`files_below`."""
    return tuple(path for path in files_below(root) if is_scan(path))
