"""Types of metadata columns, from their values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from fewlabel.data.catalog import Column, ColumnKind, Value

#: Whole numbers with at most this many distinct values count as ordinal, and may become a slice meta label.
MOST_ORDINAL = 10
#: A number with a decimal comma; thousands may be set off by points.
_COMMA = re.compile(r"([+-]?)(\d{1,3}(?:\.\d{3})+|\d+),(\d+)$")
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}$")
_MISSING = {"", "na", "n/a", "nan", "none", "null", "?", "-", "unknown"}


def infer_columns(
    table: Mapping[str, Sequence[Any]], source: str, notes: list[str] | None = None
) -> tuple[tuple[Column, ...], dict[str, tuple[Value, ...]]]:
    """Kinds and typed values of metadata columns.

    Text is categorical; whole numbers are ordinal where at most 10 distinct ones occur; other numbers are
    continuous. Empty, ``NA``, ``NaN``, ``null``, ``unknown``, ``-`` and ``?`` are missing. A column without any value
    is left out. Commas are read as decimal points where all of a column are numbers then.

    Args:
        table: Column name to its values, one per case.
        source: Where the table was found.
        notes: Takes columns whose commas were read as decimal points, and those where they could be thousands.
    """
    notes = [] if notes is None else notes
    columns: list[Column] = []
    typed: dict[str, tuple[Value, ...]] = {}
    for name, raw in table.items():
        kind, values = _infer(_with_points(name, [cleaned(value) for value in raw], notes))
        if any(value is not None for value in values):
            columns.append(Column(name, kind, source))
            typed[name] = values
    return tuple(columns), typed


def _with_points(name: str, values: Sequence[Value], notes: list[str]) -> Sequence[Value]:
    """Values with points for decimal commas, where all of them are numbers then."""
    commas = [value for value in values if isinstance(value, str) and "," in value]
    if not commas or not all(_COMMA.match(value) for value in commas):
        return values
    others = [value for value in values if value is not None and not (isinstance(value, str) and "," in value)]
    if any(_number(value) is None for value in others):
        return values
    if all(_THOUSANDS.match(value) for value in commas):
        notes.append(
            f"column {name}: the comma in {commas[0]} could be a decimal point or one of thousands, so its values are "
            "read as words. Write numbers with points"
        )
        return values
    notes.append(f"column {name}: commas are read as decimal points ({commas[0]})")
    return [_COMMA.sub(_pointed, value) if isinstance(value, str) else value for value in values]


def _pointed(match: re.Match[str]) -> str:
    return f"{match[1]}{match[2].replace('.', '')}.{match[3]}"


def _infer(values: Sequence[Value]) -> tuple[ColumnKind, tuple[Value, ...]]:
    numbers = [None if value is None else _number(value) for value in values]
    known = {number for number in numbers if number is not None}
    if any(number is None and value is not None for number, value in zip(numbers, values, strict=True)):
        return "categorical", tuple(None if value is None else str(value) for value in values)
    if len(known) <= MOST_ORDINAL and all(number == int(number) for number in known):
        return "ordinal", tuple(None if number is None else int(number) for number in numbers)
    return "continuous", tuple(numbers)


def cleaned(value: Any) -> Value:
    """A cell as a number or stripped text; None where the value is missing, whatever the column."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return value
    text = str(value).strip()
    return None if text.lower() in _MISSING or text in {"NaT", "<NA>"} else text


def _number(value: Value) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]  # None never comes here
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
