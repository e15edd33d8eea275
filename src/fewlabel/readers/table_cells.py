"""What readers share about cells that people write: empty ones, and words for parts."""

from __future__ import annotations

from typing import Any

from fewlabel.core.errors import Fault
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.column_types import cleaned

#: What a cell ``part`` may say, and the part of the catalog that it stands for.
PARTS = {"": "", "train": "", "validation": "validation", "test": "test"}


def cell(value: Any) -> str:
    """The text of a cell; empty where the value is missing, as in metadata columns."""
    return "" if cleaned(value) is None else str(value).strip()


def part_of(value: Any, where: str, faults: list[Fault]) -> str:
    """The part of the catalog that a cell names: empty, ``validation`` or ``test``."""
    word = cell(value).lower()
    if word not in PARTS:
        problem = f'part must be train, validation, test or empty, not "{cell(value)}"'
        remedy = did_you_mean(word, filter(None, PARTS), otherwise="Write one of these words")
        faults.append(Fault(problem, where, remedy))
    return PARTS.get(word, "")
