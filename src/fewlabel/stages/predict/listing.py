"""What lies in a folder: files, links that lead nowhere, folders that may not be entered, artifacts of earlier runs."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from fewlabel.core.artifact.own_files import OwnFiles, own_files
from fewlabel.core.errors import reason


@dataclass
class Listing:
    """The content of a folder and of all folders below it, sorted.

    Attributes:
        files: Files that are there.
        hidden: Files whose name, or that of a folder they lie in, begins with a dot.
        dangling: Links that lead to nothing.
        closed: Folder that cannot be listed → why.
        artifacts: What earlier runs left; none of their files is among the others.
    """

    files: list[Path] = field(default_factory=list)
    hidden: list[Path] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)
    closed: dict[Path, str] = field(default_factory=dict)
    artifacts: list[OwnFiles] = field(default_factory=list)


def list_folder(root: Path, without: Path) -> Listing:
    """Everything below ``root``; linked folders are entered, each folder once.

    Args:
        root: A folder.
        without: Folder that is not entered, such as that of the output.
    """
    listing = Listing()
    own: set[Path] = set()
    entered: set[Path] = {without.resolve()}

    def closed(error: OSError) -> None:
        listing.closed[Path(error.filename)] = reason(error)

    for place, folders, names in os.walk(root, onerror=closed, followlinks=True):
        here = Path(place)
        if here != root and here.resolve() in entered:
            folders.clear()
            continue
        entered.add(here.resolve())
        folders.sort()
        if (artifact := own_files(here, names)) is not None:
            listing.artifacts.append(artifact)
            own |= artifact.files
        for name in sorted(names):
            path = here / name
            if path in own:
                continue
            if any(part.startswith(".") for part in path.relative_to(root).parts):
                listing.hidden.append(path)
            elif path.is_file():
                listing.files.append(path)
            elif path.is_symlink():
                listing.dangling.append(path)
    for paths in (listing.files, listing.hidden, listing.dangling):
        paths.sort()
    return listing
