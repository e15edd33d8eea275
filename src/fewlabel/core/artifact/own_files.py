"""What this program made itself in a folder of scans: artifacts of earlier runs, which are no scans."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.artifact.files import MANIFEST


@dataclass(frozen=True)
class OwnFiles:
    """An artifact that lies among other files.

    Attributes:
        folder: Where it lies.
        kind: As its manifest says, such as ``predictions``.
        files: The files that the manifest lists, and the manifest.
    """

    folder: Path
    kind: str
    files: frozenset[Path]

    def __str__(self) -> str:
        return f"{self.folder} ({self.kind}, {len(self.files)} files)"


def own_files(folder: Path) -> OwnFiles | None:
    """The artifact that a folder is, of whatever version; None if it is none. Its files are not looked at.

    Args:
        folder: A folder; that it has a manifest of another program, or a damaged one, makes it none.
    """
    path = folder / MANIFEST
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    kind, files = values.get("kind"), values.get("files")
    if not isinstance(kind, str) or not isinstance(files, dict) or "content_hash" not in values:
        return None
    return OwnFiles(folder, kind, frozenset({path, *(folder / name for name in files)}))
