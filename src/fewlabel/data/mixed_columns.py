"""Metadata columns of numbers in which a few cells hold words, so that all of them are read as words."""

from __future__ import annotations

from fewlabel.data.catalog import Catalog

#: Different numbers that make a column look like one of numbers.
_LEAST_NUMBERS = 6
#: Words among so many values are few.
_VALUES_FOR_A_WORD = 10
_MOST_NAMED = 3


def mixed_columns(catalog: Catalog) -> list[str]:
    """One sentence for each column that a few words keep from being one of numbers, with the cases they stand in.

    A column counts that has at least six different numbers, and at most one word in ten values.

    Args:
        catalog: The data set.
    """
    notes = []
    for column in catalog.columns:
        if column.kind == "continuous":
            continue
        values = {case.id: str(case.metadata.get(column.name)) for case in catalog.cases}
        values = {case: value for case, value in values.items() if value != "None"}
        words = {case: value for case, value in values.items() if not _is_number(value)}
        numbers = {value for case, value in values.items() if case not in words}
        if not words or len(numbers) < _LEAST_NUMBERS or len(words) > max(1, len(values) // _VALUES_FOR_A_WORD):
            continue
        shown = ", ".join(f'"{value}" (case {case})' for case, value in list(words.items())[:_MOST_NAMED])
        more = f" and {len(words) - _MOST_NAMED} more" if len(words) > _MOST_NAMED else ""
        notes.append(
            f"column {column.name} is read as words, because of {shown}{more} among {len(values) - len(words)} "
            "numbers. If it is one of numbers, correct them or leave them empty"
        )
    return notes


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
