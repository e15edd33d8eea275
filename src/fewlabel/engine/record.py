"""The run's record: one JSON object per logged step in ``metrics.jsonl``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.collective import rank


class Record:
    """Appends rows to ``metrics.jsonl``; rank 0 only.

    Args:
        folder: Where the file lies.
        first_step: Rows of this step and later are dropped: a resumed run writes them again.
    """

    def __init__(self, folder: Path, first_step: int = 0) -> None:
        self.path = folder / "metrics.jsonl"
        self._active = rank() == 0
        if not self._active:
            return
        folder.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_record(self.path) if row["step"] < first_step]
        self.path.write_text("".join(json.dumps(row) + "\n" for row in kept))

    def add(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one row; numbers that are not finite become null."""
        if not self._active:
            return
        row = {"step": step, **{key: _finite(value) for key, value in values.items()}}
        with self.path.open("a") as stream:
            stream.write(json.dumps(row) + "\n")


def read_record(path: Path) -> list[dict[str, Any]]:
    """All complete rows of a record; a row cut off by a kill is left out."""
    rows = []
    if path.is_file():
        for line in path.read_text().splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value
