"""What this program made itself in a folder of scans: artifacts of earlier runs and single masks, no scans."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import MANIFEST

#: Ends of the names of what ``predict`` writes about its masks: when it is done, and while it is not.
PREDICT_REPORT, PREDICT_JOURNAL = "run_report.json", "unfinished.jsonl"


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

    @property
    def count(self) -> int:
        """How many of the files are there."""
        return sum(file.is_file() for file in self.files)

    def __str__(self) -> str:
        return f"{self.folder} ({self.kind}, {self.count} files)"


def own_files(folder: Path, names: Iterable[str]) -> OwnFiles | None:
    """What this program, of whatever version, made in a folder; None if nothing. The files are not looked at.

    Args:
        folder: A folder; that it has a manifest of another program, or a damaged one, makes it none of ours.
        names: The files in it.
    """
    kind = ""
    files: set[Path] = set()
    for name in names:
        if name == MANIFEST:
            values = next(_objects(folder / name, lines=False), {})
            if (
                isinstance(values.get("kind"), str)
                and isinstance(values.get("files"), dict)
                and "content_hash" in values
            ):
                kind = values["kind"]
                files |= {folder / name, *(folder / file for file in values["files"])}
        elif name.endswith(PREDICT_REPORT):
            masks = next(_objects(folder / name, lines=False), {}).get("masks")
            records = masks.values() if isinstance(masks, dict) else ()
            files |= {folder / file for record in records for file in _names(record)}
        elif name.endswith(PREDICT_JOURNAL):
            lines = _objects(folder / name, lines=True)
            files |= {folder / file for line in lines for file in _names(line)}
    return OwnFiles(folder, kind or "predictions", frozenset(files)) if files else None


def _names(record: Any) -> Iterator[str]:
    """The files that a record of a mask names, or a note on one."""
    if not isinstance(record, dict):
        return
    files = record.get("files")
    for name in (record.get("begun"), *(files if isinstance(files, dict | list) else ())):
        if isinstance(name, str) and name:
            yield name


def _objects(path: Path, *, lines: bool) -> Iterator[dict[str, Any]]:
    """The JSON objects in a file: all of it, or one a line; what is none is passed over."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    for part in text.splitlines() if lines else [text]:
        try:
            value = json.loads(part)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            yield value
