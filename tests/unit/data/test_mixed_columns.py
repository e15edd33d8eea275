"""Words among numbers are said, with the case they stand in."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewlabel.data.catalog import Case, Catalog, Column
from fewlabel.data.mixed_columns import mixed_columns


def catalog(values, kind="categorical"):
    cases = tuple(Case(f"c{n:02d}", f"c{n}", (Path("x"),), metadata={"weight": v}) for n, v in enumerate(values))
    return Catalog("d", Path("/d"), "table", cases, (Column("weight", kind),))


def test_a_word_among_numbers():
    [note] = mixed_columns(catalog([*map(str, range(60, 70)), "heavy", None]))
    assert note.startswith('column weight is read as words, because of "heavy" (case c10) among 10 numbers.')


@pytest.mark.parametrize(
    "values",
    [
        ["1", "2", "3a", "3b", "1", "2"],
        ["A", "B", "C", "1", "2", "3", "4", "5", "6"],
        list(map(str, range(12))),
        [*map(str, range(6)), "x", "y"],
        [None, None],
    ],
)
def test_columns_of_words_or_of_numbers(values):
    assert mixed_columns(catalog(values)) == []
    assert mixed_columns(catalog([*map(str, range(60, 70)), "x"], "continuous")) == []
