"""Tables that lead from pseudonyms back to patients and files: for the eyes of those who may read the DICOM files."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from fewlabel.core.artifact.files import write_bytes
from fewlabel.core.printable import printable

#: What each pseudonym stands for, and which files cannot be read.
SCANS, UNREADABLE = "scans.csv", "unreadable.csv"
_COLUMNS = ("scan", "subject", "used", "patient", "name", "study", "series", "folder", "description")


def write_scans(rows: Sequence[Mapping[str, str]], home: Path, user_folder: Path) -> Path | None:
    """Write which patient, series and folder each pseudonym stands for, unless the table of the key says it already.

    Rows of other data with the same key stay.

    Args:
        rows: A value for each column: ``scan``, ``subject``, ``used``, ``patient``, ``name``, ``study``, ``series``,
            ``folder`` and ``description``.
        home: Folder of the key, where nothing is written.
        user_folder: Folder of the user.

    Returns:
        The table; None where it cannot be written, which does no harm but that nobody finds the way back.
    """
    try:
        there = {row["scan"]: row for row in _rows(home / SCANS)}
        if rows and all(there.get(row["scan"]) == _whole(row) for row in rows):
            return home / SCANS
        _merge([*_rows(user_folder / SCANS), *map(_whole, rows)], user_folder / SCANS)
    except (OSError, csv.Error):
        return None
    return user_folder / SCANS


def known_patients(*folders: Path) -> set[tuple[str, str]]:
    """Name and number of each patient in the tables of these folders, as far as they can be read."""
    known: set[tuple[str, str]] = set()
    for folder in folders:
        try:
            known.update((row["name"], row["patient"]) for row in _rows(folder / SCANS))
        except (OSError, csv.Error):
            continue
    return known - {("", "")}


def merge_scans(table: Path, into: Path) -> None:
    """Write the rows of a table into another one, in place of its own for the same pseudonyms.

    Raises:
        OSError: If one cannot be read or written.
    """
    _merge([*_rows(into), *_rows(table)], into)


def write_unreadable(files: Sequence[tuple[Path, str]], user_folder: Path) -> Path | None:
    """Write which files cannot be read, and why; without any, the table is removed.

    Args:
        files: Each with what is wrong with it.
        user_folder: Folder of the user.

    Returns:
        The table; None where there is none.
    """
    path = user_folder / UNREADABLE
    try:
        if not files:
            path.unlink(missing_ok=True)
            return None
        lost = [{"file": printable(str(file)), "problem": problem} for file, problem in files]
        _write_changed(path, ("file", "problem"), lost)
    except (OSError, csv.Error):
        return None
    return path


def _merge(rows: Sequence[Mapping[str, str]], path: Path) -> None:
    by_scan = {row["scan"]: row for row in rows}
    _write_changed(path, _COLUMNS, [by_scan[scan] for scan in sorted(by_scan)])


def _rows(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    # A program for tables may have saved it its own way.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        return [_whole(row) for row in csv.DictReader(stream) if row.get("scan")]


def _whole(row: Mapping[str, str | None]) -> dict[str, str]:
    """The row as a file holds it: a name that is not UTF-8 with an escape for each odd byte, by which it is found."""
    whole = {name: (row.get(name) or "").encode("utf-8", "replace").decode() for name in _COLUMNS}
    # A study or a series without a number stands under its folder.
    return {**whole, **{name: printable(row.get(name) or "") for name in ("study", "series", "folder")}}


def _write_changed(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> None:
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    # What is wrong with a file may name it.
    content = stream.getvalue().encode("utf-8", "replace")
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(path, content)
