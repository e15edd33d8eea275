"""A full disk in words: what could not be written, how much is free, and what is largest beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.core.unfinished_files import is_partial

_MOST_NAMED = 3
#: Files that are looked at, at most: a full disk may hold millions.
_MOST_FILES = 20_000
_MIB = 2**20


def full_disk_fault(place: Path | None, needed: int | None = None) -> Fault:
    """The fault of a disk on which there is no room.

    Args:
        place: What was to be written; None where nobody knows.
        needed: Its bytes, where they are known.
    """
    again = "Free some space and repeat the command: training continues with --resume, predict and study by themselves"
    if place is None:
        return Fault("there is no room on the disk", remedy=again)
    shown = _known_name(place.absolute())
    folder = next(path for path in (shown.parent, *shown.parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    wanted = "" if needed is None else f"{_size(needed)} are needed, "
    largest = ", ".join(f"{path} ({_size(size)})" for path, size in _largest(folder))
    beside = f". Largest there: {largest}" if largest else ""
    return Fault(f"no room on its disk: {wanted}{_size(free)} free", str(shown), f"{again}{beside}")


def _known_name(path: Path) -> Path:
    """The name that the user knows of a file or folder that is being written under a hidden one."""
    for part in (path, *path.parents):
        if is_partial(part):
            return part.with_name(part.name[1:].rsplit(".", 3)[0])
    return path


def _largest(folder: Path) -> list[tuple[Path, int]]:
    """What takes most of the folder above, or of this one where that lies on another disk."""
    above = folder.parent if folder.stat().st_dev == folder.parent.stat().st_dev else folder
    sizes: dict[Path, int] = {}
    files = 0
    for home, _, names in os.walk(above):
        for name in names:
            path = Path(home, name)
            files += 1
            try:
                size = path.lstat().st_size
            except OSError:
                continue
            entry = above / path.relative_to(above).parts[0]
            sizes[entry] = sizes.get(entry, 0) + size
        if files > _MOST_FILES:
            break
    ranked = sorted(sizes.items(), key=lambda item: -item[1])[:_MOST_NAMED]
    return [(path, size) for path, size in ranked if size >= _MIB]


def _size(count: int) -> str:
    if count < _MIB:
        return f"{count} bytes"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / _MIB:.1f} MiB"
