"""A table beside scans that names them, as metadata: patients with their age, scanner or diagnosis."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Case, Column
from fewlabel.data.column_types import infer_columns
from fewlabel.readers.text_files import read_text

_SUFFIXES = {".csv": None, ".tsv": "\t"}
#: Columns that say what scans are kept for, where all their words do.
_SPLIT = {"split", "part", "set", "subset", "partition"}
_PARTS = {
    **dict.fromkeys(("", "train", "training"), ""),
    **dict.fromkeys(("val", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def with_side_table(
    root: Path, cases: Sequence[Case], faults: list[Fault]
) -> tuple[tuple[Column, ...], list[Case], tuple[str, ...]]:
    """Metadata of the table in ``root`` whose rows name the most subjects or scans, one row each.

    Args:
        root: Folder of the data set; tables of its folders are not looked at.
        cases: As a reader made them.
        faults: Takes why a table cannot be read.

    Returns:
        Columns, the cases with their values, and a note.
    """
    best: tuple[int, Path, str, dict[str, Mapping[str, str]], bool] | None = None
    for path, rows in _tables(root, faults):
        for column in rows[0]:
            values = [row.get(column) or "" for row in rows]
            if len(set(values)) < len(values):
                continue
            for by_subject in (True, False):
                names = {case.subject if by_subject else case.id for case in cases}
                hits = len(names & {value.strip() for value in values})
                if 2 * hits >= len(names) and (best is None or hits > best[0]):
                    by_name = {value.strip(): row for value, row in zip(values, rows, strict=True)}
                    best = (hits, path, column, by_name, by_subject)
    if best is None:
        return (), list(cases), ()
    _, path, key, by_name, by_subject = best
    found: list[Mapping[str, str]] = [by_name.get(case.subject if by_subject else case.id, {}) for case in cases]
    taken = {name for case in cases for name in case.metadata}
    fields = [name for name in next(iter(by_name.values())) if name and name != key and name not in taken]
    split = _split_column(fields, found)
    fields = [name for name in fields if name != split]
    columns, typed = infer_columns({name: [row.get(name) for row in found] for name in fields}, path.name)
    completed = [
        replace(
            case,
            metadata={**case.metadata, **{name: values[index] for name, values in typed.items()}},
            part=_PARTS[found[index].get(split, "").strip().lower()] if split else case.part,
        )
        for index, case in enumerate(cases)
    ]
    missing = sum(not row for row in found)
    note = f"metadata is from {path.name}, whose column {key} names the {'subjects' if by_subject else 'scans'}"
    return columns, completed, (note + (f"; {missing} scans are not in it" if missing else ""),)


def _split_column(fields: Sequence[str], rows: Sequence[Mapping[str, str]]) -> str:
    """The column that says which scans are kept for what; empty without one."""
    for name in fields:
        words = {row.get(name, "").strip().lower() for row in rows}
        if name.strip().lower() in _SPLIT and words <= set(_PARTS) and words != {""}:
            return name
    return ""


def _tables(root: Path, faults: list[Fault]) -> Iterator[tuple[Path, list[Mapping[str, str]]]]:
    """Tables of a folder and their rows, at least one."""
    for path in sorted(root.iterdir()):
        if path.suffix.lower() not in _SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        text = read_text(path, faults, [])
        first = text.partition("\n")[0]
        separator = _SUFFIXES[path.suffix.lower()] or max(",;\t", key=first.count)
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
        except csv.Error as error:
            faults.append(Fault(f"{path} is not a readable table ({error})"))
            continue
        if rows:
            yield path, [{key: value or "" for key, value in row.items() if isinstance(key, str)} for row in rows]
