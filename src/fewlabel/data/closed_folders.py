"""Folders below a data set that may not be listed: what lies in them would be missed without a word."""

from __future__ import annotations

import os
from pathlib import Path

from fewlabel.core.errors import Fault, reason


def closed_folder_faults(root: Path) -> list[Fault]:
    """One fault for each folder at or below ``root`` that cannot be listed; hidden folders do not count.

    Args:
        root: A folder; of anything else nothing is said.
    """
    faults: list[Fault] = []

    def closed(error: OSError) -> None:
        problem = f"cannot be listed ({reason(error)}), so what lies in it is missed"
        faults.append(Fault(problem, str(error.filename), "Allow reading it, or take it out of the data set"))

    for _, folders, _ in os.walk(root, onerror=closed) if root.is_dir() else ():
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return faults
