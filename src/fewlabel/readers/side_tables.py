"""Tables beside scans that name them, as metadata: patients with their age, scanner or diagnosis."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Case, Catalog, Column
from fewlabel.data.column_types import infer_columns
from fewlabel.data.io.catalog_paths import files_behind
from fewlabel.data.io.file_names import file_stem, is_scan
from fewlabel.data.subjects_from_names import Key, spelling_key
from fewlabel.readers.column_names import PART_WORDS, meanings
from fewlabel.readers.listing import files_below
from fewlabel.readers.table_cells import cell, part_of
from fewlabel.readers.table_file import TABLE_SUFFIXES, Table, read_table

#: Tables that readers read themselves: those of nnU-Net and Decathlon folders, and those of BIDS.
_READ = {
    "nnunet": ("metadata.csv",),
    "msd": ("metadata.csv",),
    "bids": ("participants.tsv", "_sessions.tsv", "_scans.tsv", "dseg.tsv"),
}
_MOST_SHOWN = 3
#: Line of a row, and its cells.
_Row = tuple[int, Mapping[str, str]]


@dataclass(frozen=True)
class _Joined:
    """A table whose rows name scans.

    Attributes:
        path: The table.
        column: That names them.
        of_subjects: Whether it names subjects.
        rows: Line and cells of each case, in their order; None for one that is not in the table.
        strangers: Rows that name nobody.
        names: Subjects or scans that it names.
    """

    path: Path
    column: str
    of_subjects: bool
    rows: tuple[_Row | None, ...]
    strangers: int
    names: int


def with_side_tables(catalog: Catalog, root: Path) -> Catalog:
    """The catalog with the metadata of tables beside it whose rows name half of the subjects or scans, one row each.

    A scan is named by its id, its file's name or its path. A table of scans may name their subjects and parts, too.
    What is not used is noted, with the reason.

    Args:
        catalog: As a reader made it.
        root: Folder of the data set.
    """
    if not catalog.cases:
        return catalog
    notes: list[str] = []
    faults: list[Fault] = []
    joined: list[_Joined] = []
    for path in _tables(root, catalog):
        wrong: list[Fault] = []
        said: list[str] = []
        table = read_table(path, wrong, said)
        best = _best_column(path, table, catalog.cases, root)
        if isinstance(best, _Joined):
            joined.append(best)
            faults.extend(wrong)
            notes.extend(said)
        else:
            why = f"it cannot be read ({wrong[0]})" if wrong and not table.rows else best
            notes.append(f"{path.relative_to(root)} is not used: {why}")
    cases, columns = list(catalog.cases), list(catalog.columns)
    for best in sorted(joined, key=lambda table: -table.names):
        more, cases = _completed(best, cases, faults, notes, root)
        columns.extend(more)
    return replace(
        catalog,
        cases=tuple(cases),
        columns=tuple(columns),
        notes=(*catalog.notes, *notes),
        faults=(*catalog.faults, *faults),
    )


def _tables(root: Path, catalog: Catalog) -> list[Path]:
    """Tables of a folder and, where it has none, of those in it, but those that its reader reads itself."""
    paths = [path for path in files_below(root) if path.suffix.lower() in TABLE_SUFFIXES and path.name[:2] != "~$"]
    paths = [path for path in paths if not path.name.lower().endswith(_READ.get(catalog.reader, ("\0",)))]
    beside = [path for path in paths if len(path.parts) == 1]
    if catalog.reader == "table":
        return [root / path for path in beside if path.stem != catalog.name]
    deeper = [path for path in paths if len(path.parts) == 2] if catalog.reader != "bids" else []
    return [root / path for path in beside or deeper]


def _best_column(path: Path, table: Table, cases: Sequence[Case], root: Path) -> _Joined | str:
    """The column that names most subjects or scans; without one, why there is none, and what to do."""
    best: _Joined | None = None
    part, twice = (0, 0, ""), ""
    cells = {column: [row[column] for _, row in table.rows] for column in table.columns}
    subject = meanings(cells, "", [], [], lambda _: False, ("subject",)).known.get("subject", "")
    for column in table.columns:
        # Beside a column of subjects another one that could name them names the scans.
        for of_subjects in (False, True) if subject not in {"", column} else (True, False):
            names = [_names(case, root, of_subjects=of_subjects) for case in cases]
            rows, strangers, again = _rows_of(table, column, names)
            hits = len({name[0] for name, row in zip(names, rows, strict=True) if row is not None})
            total = len({name[0] for name in names})
            if again and 2 * hits >= total:
                twice = twice or f"several of its rows name {again} in the column {column}. Keep one row for each"
            elif 2 * hits >= total and (best is None or hits > best.names):
                best = _Joined(path, column, of_subjects, tuple(rows), strangers, hits)
            elif hits > part[0]:
                part = (hits, total, column)
    if best is not None:
        return best
    if twice:
        return twice
    if part[0]:
        return f"its column {part[2]} names {part[0]} of {part[1]} subjects or scans. Add rows for the others"
    shown = ", ".join(list(dict.fromkeys(case.subject for case in cases))[:_MOST_SHOWN])
    return f"no column of it names the subjects or scans. Add one that does ({shown}, …) to have it as metadata"


def _names(case: Case, root: Path, *, of_subjects: bool) -> tuple[str, ...]:
    """What a case, or its subject, may be called in a table; the first is its own name."""
    if of_subjects:
        return case.subject, case.subject.removeprefix("sub-")
    file = files_behind(case.images[0])[0]
    path = file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file)
    return case.id, file_stem(file), path


def _rows_of(table: Table, column: str, names: Sequence[tuple[str, ...]]) -> tuple[list[_Row | None], int, str]:
    """The row of each case, the number of rows of nobody, and a name that several rows have."""
    exact: dict[str, _Row] = {}
    spelled: dict[Key, set[str]] = {}
    counts: Counter[str] = Counter()
    for line, cells in table.rows:
        if text := cell(cells[column]):
            path = Path(text.replace("\\", "/"))
            counts[text] += 1
            exact[text] = line, cells
            if is_scan(path):
                exact.setdefault(file_stem(path), (line, cells))
            spelled.setdefault(spelling_key(text.removeprefix("sub-")), set()).add(text)
    # One spelling stands for one name on either side.
    keys = Counter(spelling_key(name) for name in {each[-1] for each in names})
    rows: list[_Row | None] = []
    again = ""
    for own in names:
        row = next((exact[name] for name in own if name in exact), None)
        if row is None:
            same = spelled.get(spelling_key(own[-1]), set())
            row = exact[next(iter(same))] if len(same) == 1 and keys[spelling_key(own[-1])] == 1 else None
        if row is not None and counts[cell(row[1][column])] > 1:
            again = again or cell(row[1][column])
        rows.append(row)
    lines = {row[0] for row in rows if row is not None}
    return rows, sum(line not in lines for line, cells in table.rows if cell(cells[column])), again


def _completed(
    table: _Joined, cases: Sequence[Case], faults: list[Fault], notes: list[str], root: Path
) -> tuple[tuple[Column, ...], list[Case]]:
    rows: list[_Row] = [(0, {}) if row is None else row for row in table.rows]
    cells = {name: [row.get(name, "") for _, row in rows] for name in next(row for _, row in rows if row)}
    known = meanings(cells, str(table.path), [], [], lambda _: False, ("subject", "part")).known
    subject = "" if table.of_subjects or known.get("subject") == table.column else known.get("subject", "")
    part = known.get("part") or _set_column(cells)
    taken = {name for case in cases for name in case.metadata}
    files = {name for name, values in cells.items() if any(is_scan(Path(value)) for value in values)}
    fields = [name for name in cells if name not in {table.column, subject, part, *taken, *files}]
    columns, typed = infer_columns({name: cells[name] for name in fields}, table.path.name, notes)
    completed = []
    for index, (case, (line, row)) in enumerate(zip(cases, rows, strict=True)):
        word = cell(row.get(part)) if part else ""
        word = word if part.lower() == "part" else PART_WORDS.get(word.lower(), word)
        completed.append(
            replace(
                case,
                subject=(cell(row.get(subject)) if subject else "") or case.subject,
                metadata={**case.metadata, **{name: values[index] for name, values in typed.items()}},
                part=part_of(word, f"{table.path}, line {line}", faults) if part else case.part,
            )
        )
    notes.append(_note(table, subject, sorted(taken & set(cells)), root))
    return columns, completed


def _note(table: _Joined, subject: str, taken: Sequence[str], root: Path) -> str:
    kind = "subjects" if table.of_subjects else "scans"
    note = f"metadata is from {table.path.relative_to(root)}, whose column {table.column} names the {kind}"
    missing = sum(row is None for row in table.rows)
    parts = [
        note,
        f"its column {subject} names the subjects" if subject else "",
        f"{missing} of {len(table.rows)} scans are not in it" if missing else "",
        f"rows of it that name nobody here: {table.strangers}" if table.strangers else "",
        f"its columns {', '.join(taken)} are left out, since others are called so" if taken else "",
    ]
    return "; ".join(filter(None, parts))


def _set_column(cells: Mapping[str, Sequence[str]]) -> str:
    """A column called ``set`` that says which scans are kept for what; empty without one."""
    words = {name: {value.lower() for value in values if value} for name, values in cells.items()}
    return next(
        (name for name in words if name.lower() == "set" and words[name] and words[name] <= set(PART_WORDS)), ""
    )
