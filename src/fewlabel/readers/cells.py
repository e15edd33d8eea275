"""What readers share about text that people write: its encoding, names of columns, empty cells, words for parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, reason
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.columns import cleaned

#: What a cell ``part`` may say, and the part of the catalog that it stands for.
PARTS = {"": "", "train": "", "validation": "validation", "test": "test"}


def read_text(path: Path, faults: list[Fault]) -> str:
    """The text of a file; empty if it cannot be read, and why goes to ``faults``."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = 1 + error.object[: error.start].count(b"\n")
        problem = f"must be UTF-8 text, but has the byte 0x{error.object[error.start]:02x}"
        faults.append(Fault(problem, f"{path}, line {line}", "Save it as UTF-8"))
    except OSError as error:
        faults.append(Fault(f"{path} cannot be read ({reason(error)})"))
    return ""


def cell(value: Any) -> str:
    """The text of a cell; empty where the value is missing, as in metadata columns."""
    return "" if cleaned(value) is None else str(value).strip()


def known_columns(
    names: Iterable[str], known: Callable[[str], object], where: str, faults: list[Fault]
) -> dict[str, str]:
    """Column → its name; one that is known is found in any case, so that ``Label`` is no metadata.

    Args:
        names: Columns as written.
        known: Whether a reader gives a meaning to a name in lower case.
        where: The table.
        faults: Takes known columns that are there twice.
    """
    columns: dict[str, str] = {}
    for name in names:
        low = name.strip().lower()
        if not known(low):
            columns[name] = name.strip()
            continue
        first = next((other for other, taken in columns.items() if taken == low), None)
        if first is not None:
            problem = f"columns {first} and {name} have the same name, in any case"
            faults.append(Fault(problem, where, "Rename or remove one"))
        columns[name] = low if first is None else name
    return columns


def part_of(value: Any, where: str, faults: list[Fault]) -> str:
    """The part of the catalog that a cell names: empty, ``validation`` or ``test``."""
    word = cell(value).lower()
    if word not in PARTS:
        problem = f'part must be train, validation, test or empty, not "{cell(value)}"'
        remedy = did_you_mean(word, filter(None, PARTS), otherwise="Write one of these words")
        faults.append(Fault(problem, where, remedy))
    return PARTS.get(word, "")
