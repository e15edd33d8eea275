"""A folder put in the place of another, so that a kill at any moment leaves the old one or the new one to be found."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from pathlib import Path

from fewlabel.core.unfinished_files import STALE_SECONDS, abandoned, partial_beside, partials_of

#: What every artifact has; a folder that had one and has none is unfinished.
MANIFEST = "manifest.json"
#: Ends of the names of an old folder while the new one takes its place: moved as a whole, or its contents one by one.
#: What sweeps away unfinished files knows neither.
_WHOLE, _EMPTIED = ".whole.partial", ".emptied.partial"
_AT_FDCWD, _EXCHANGE = -100, 2


def replace_folder(folder: Path, new: Path) -> None:
    """Put ``new`` in the place of ``folder``, which is there; the old content goes.

    Where the system can, the two are exchanged at once. Where it cannot, the old one lies aside until the new one is in
    its place, and :func:`restore_replaced` finds it there. A current folder, or one that it lies in, stays itself and
    gets the new content.

    Raises:
        OSError: If it cannot be done; then the old one is back in its place.
    """
    if Path.cwd().is_relative_to(folder):
        _refill(folder, new)
    elif not _exchanged(folder, new):
        aside = _aside(folder, _WHOLE)
        folder.rename(aside)
        try:
            new.rename(folder)
        except OSError:
            _restore(aside, folder)
            raise
        _remove(aside, folder)


def restore_replaced(folder: Path) -> bool:
    """Put an old folder back that a killed process had moved aside; whether there was one.

    Where the new one is finished, the old one is removed. What belongs to a living process is left to it.
    """
    folder, restored = folder.resolve(), False
    for aside in partials_of(folder):
        if not aside.name.endswith((_WHOLE, _EMPTIED)) or not _left(aside):
            continue
        own = _aside(folder, _WHOLE if aside.name.endswith(_WHOLE) else _EMPTIED)
        try:
            aside.rename(own)
        except OSError:
            # Another process was faster, or nothing may be written here.
            continue
        if own.name.endswith(_WHOLE) and _finished(folder, own):
            _remove(own, folder)
        else:
            _restore(own, folder)
            restored = True
    return restored


def _refill(folder: Path, new: Path) -> None:
    """Give a folder other content; without its manifest it counts as unfinished."""
    aside = _aside(folder, _EMPTIED)
    aside.mkdir()
    try:
        for path in sorted(folder.iterdir(), key=lambda path: path.name != MANIFEST):
            path.rename(aside / path.name)
        for path in sorted(new.iterdir(), key=lambda path: path.name == MANIFEST):
            path.rename(folder / path.name)
    except OSError:
        _restore(aside, folder)
        raise
    _remove(aside, folder)


def _restore(aside: Path, folder: Path) -> None:
    """What lies aside goes back, the manifest last; what else is in the folder stays."""
    if not folder.exists():
        aside.rename(folder)
        return
    for path in sorted(aside.iterdir(), key=lambda path: path.name == MANIFEST):
        place = folder / path.name
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        path.rename(place)
    aside.rmdir()


def _remove(aside: Path, folder: Path) -> None:
    """Under a name first that says that it is not needed any more."""
    gone = partial_beside(folder)
    aside.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _finished(folder: Path, old: Path) -> bool:
    return folder.is_dir() and ((folder / MANIFEST).exists() or not (old / MANIFEST).exists())


def _aside(folder: Path, end: str) -> Path:
    partial = partial_beside(folder)
    return partial.with_name(partial.name.removesuffix(".partial") + end)


def _left(aside: Path) -> bool:
    """Whether nobody is at work on it: its process is gone, or, on another machine, it was moved long ago."""
    end = _WHOLE if aside.name.endswith(_WHOLE) else _EMPTIED
    partial = aside.with_name(aside.name.removesuffix(end) + ".partial")
    return abandoned(partial) or time.time() - aside.stat().st_ctime > STALE_SECONDS


def _exchanged(one: Path, two: Path) -> bool:
    """Whether two folders of one file system have exchanged places, in one step; else they are as they were."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        # A C library from before 2018.
        return False
    # Some file systems cannot; whatever else is wrong, the renames say.
    return bool(call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), ctypes.c_uint(_EXCHANGE)) == 0)
