"""Where a result may go: what stands in the way at a place, and what a folder is called."""

from __future__ import annotations

from pathlib import Path

from fewlabel.core.partials import is_partial


def in_the_way(out: Path) -> str:
    """What keeps a folder from being made at a place, in words; empty if it is new or an empty folder.

    Args:
        out: Where the folder is to be. What a killed process left half written counts as nothing.
    """
    if out.is_dir():
        return "other files" if any(not is_partial(path) for path in out.iterdir()) else ""
    if out.exists():
        return "a file"
    # A name that is taken further up, as in --out notes.txt/run.
    above = next(parent for parent in out.absolute().parents if parent.exists())
    return "" if above.is_dir() else f"the file {above}"


def with_a_name(folder: Path) -> Path:
    """The folder as it was given, or its absolute path where that has no name of its own, as ``.`` and ``..``."""
    return folder if folder.name not in {"", ".."} else folder.resolve()
