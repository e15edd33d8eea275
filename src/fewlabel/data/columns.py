"""Types of metadata columns, from their values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fewlabel.data.catalog import Column, ColumnKind, Value

#: Whole numbers with at most this many distinct values count as ordinal, and may become a slice meta label.
MOST_ORDINAL = 10
_MISSING = {"", "na", "n/a", "nan", "none", "null", "?", "-", "unknown"}


def infer_columns(
    table: Mapping[str, Sequence[Any]], source: str
) -> tuple[tuple[Column, ...], dict[str, tuple[Value, ...]]]:
    """Kinds and typed values of metadata columns.

    Text is categorical; whole numbers are ordinal where at most 10 distinct ones occur; other numbers are
    continuous. Empty, ``NA``, ``NaN``, ``null``, ``unknown``, ``-`` and ``?`` are missing. A column without any value
    is left out.

    Args:
        table: Column name to its values, one per case.
        source: Where the table was found.
    """
    columns: list[Column] = []
    typed: dict[str, tuple[Value, ...]] = {}
    for name, raw in table.items():
        kind, values = _infer([cleaned(value) for value in raw])
        if any(value is not None for value in values):
            columns.append(Column(name, kind, source))
            typed[name] = values
    return tuple(columns), typed


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
