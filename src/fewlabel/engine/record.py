"""The run's record: one JSON object per logged step in ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import append_line, write_text
from fewlabel.core.collective import rank
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.engine.trackers import Trackers


class Record:
    """Appends rows to ``metrics.jsonl``; rank 0 only.

    Args:
        folder: Where the file lies.
        first_step: Rows of this step and later are dropped: a resumed run writes them again.
        trackers: Take the same figures.
    """

    def __init__(self, folder: Path, first_step: int = 0, trackers: Trackers | None = None) -> None:
        self.path = folder / "metrics.jsonl"
        self._trackers = trackers
        self._active = rank() == 0
        if not self._active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_record(self.path) if row["step"] < first_step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one row; numbers that are not finite become null."""
        if not self._active:
            return
        row = {"step": step, **{key: _finite(value) for key, value in values.items()}}
        append_line(self.path, json.dumps(row))
        if self._trackers is not None:
            self._trackers.add(step, {key: value for key, value in row.items() if key != "step"})

    def close(self, *, whole: bool) -> None:
        """Let trackers write what they hold.

        Args:
            whole: Whether the training took all its steps.
        """
        if self._trackers is not None:
            self._trackers.close(whole=whole)


def read_record(path: Path) -> list[dict[str, Any]]:
    """All rows of a record, none if it is not there.

    Raises:
        ArtifactError: As :func:`parse_record`.
    """
    return parse_record(path.read_bytes(), path) if path.is_file() else []


def parse_record(content: bytes, path: Path) -> list[dict[str, Any]]:
    """All rows of a record but a last one that was cut off by a kill.

    Args:
        content: Of the file.
        path: For messages.

    Raises:
        ArtifactError: If another line is no row.
    """
    rows: list[dict[str, Any]] = []
    lines = content.splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            rows.append(row)
        elif number < len(lines) or content.endswith(b"\n"):
            problem = f"{path} is damaged: line {number} is not a row of a record"
            raise ArtifactError("An artifact is damaged:", [Fault(problem, remedy="Remove the line")])
    return rows


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
