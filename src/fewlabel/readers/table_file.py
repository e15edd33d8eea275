"""Tables as files of any common kind: text with any separator, Excel workbooks and Parquet, as rows of text."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from datetime import date, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, reason
from fewlabel.data.column_types import cleaned
from fewlabel.readers.parquet_pages import MisfitError
from fewlabel.readers.table_sizes import SheetSize, parquet_problem, workbook_problem
from fewlabel.readers.text_files import encoding_of, read_text

TEXT_SUFFIXES = (".csv", ".tsv")
EXCEL_SUFFIXES = (".xlsx", ".xlsm")
TABLE_SUFFIXES = (*TEXT_SUFFIXES, *EXCEL_SUFFIXES, ".parquet")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
#: A first line by which Excel writes down the separator.
_HINT = "sep="
_HEAD_BYTES, _HEAD_ROWS = 65536, 20


@dataclass(frozen=True)
class Table:
    """A table: its columns in their order, and rows with the line of the file that each is in.

    Cells are text without spaces around it, empty where nothing is.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]


def read_table(path: Path, faults: list[Fault], notes: list[str], most: int | None = None) -> Table:
    """A table file; without columns where it cannot be read.

    Columns without a name are left out. A row with more cells than columns, and two columns of one name, are faults.

    Args:
        path: A ``.csv``, ``.tsv``, ``.xlsx`` or ``.parquet`` file.
        faults: Takes what is wrong with it, by line.
        notes: Takes what was guessed: encoding, separator, sheet.
        most: Rows to read from its beginning; None for all.
    """
    suffix = path.suffix.lower()
    lines: list[tuple[int, list[str]]] = []
    try:
        if suffix in EXCEL_SUFFIXES:
            lines = _excel(path, faults, notes, most)
        elif suffix == ".parquet":
            lines = _parquet(path, faults, most)
        else:
            lines = _text(path, faults, notes, most)
    except Exception as error:  # noqa: BLE001  # of zip, XML, Parquet and openpyxl itself, which share no base
        problem = f"{path} is not a readable table ({reason(error)})"
        faults.append(Fault(problem, remedy="Save it anew with the program that made it"))
    return _shaped(path, lines, faults, notes) if lines else Table((), ())


def _shaped(path: Path, lines: list[tuple[int, list[str]]], faults: list[Fault], notes: list[str]) -> Table:
    (first, header), *body = lines
    names = [name.strip() for name in header]
    twice = [name for name, count in Counter(filter(None, names)).items() if count > 1]
    for name in twice:
        places = ", ".join(str(index + 1) for index, other in enumerate(names) if other == name)
        problem = f"column {name} is there {names.count(name)} times, as columns {places}"
        faults.append(Fault(problem, f"{path}, line {first}", "Rename or remove all but one"))
    # Programs leave empty rows at the end.
    while body and not any(cell.strip() for cell in body[-1][1]):
        body.pop()
    rows = []
    unnamed = 0
    columns = tuple(dict.fromkeys(filter(None, names)))
    for line, cells in body:
        values = [cell.strip() for cell in cells]
        if not values:
            continue
        if len(values) > len(names) and (len(names) == 1 or path.suffix.lower() in TEXT_SUFFIXES):
            problem = f"has {len(values)} cells for {len(names)} columns"
            remedy = "Quote the cell that holds the separator (a decimal comma?), or take the last one off"
            faults.append(Fault(problem, f"{path}, line {line}", remedy))
        row: dict[str, str] = {}
        for name, value in zip(names, values, strict=False):
            if name:
                row.setdefault(name, value)
            else:
                unnamed += bool(value)
        for name in columns:
            row.setdefault(name, "")
        rows.append((line, row))
    if unnamed:
        notes.append(f"{path.name} has a column without a name: it is left out")
    return Table(columns, tuple(rows))


def _text(path: Path, faults: list[Fault], notes: list[str], most: int | None) -> list[tuple[int, list[str]]]:
    if most is None:
        text = read_text(path, faults, notes)
    else:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
        text = head.decode(encoding_of(head), errors="replace")
    text = text.lstrip("\ufeff")
    if "\n" not in text:
        text = text.replace("\r", "\n")
    skipped = 0
    separator = ""
    if text[: len(_HINT)].lower() == _HINT:
        hint, _, text = text.partition("\n")
        separator, skipped = hint.strip()[len(_HINT) :] or ",", 1
    blank = len(text) - len(text.lstrip("\r\n"))
    skipped, text = skipped + text[:blank].count("\n"), text[blank:]
    own = "\t" if path.suffix.lower() == ".tsv" else ","
    if not separator:
        separator = _separator(text, own)
        if separator != own:
            notes.append(f"{path.name}: columns are separated by {_SEPARATORS[separator]}")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    lines: list[tuple[int, list[str]]] = []
    before = 0
    for cells in rows:
        lines.append((skipped + before + 1, cells))
        before = rows.line_num
        if most is not None and len(lines) > most:
            break
    return lines


def _separator(text: str, own: str) -> str:
    """The separator that cuts the header into most columns; the suffix's own where none does."""
    header = (text.splitlines() or [""])[0]
    counts = {separator: len(next(csv.reader([header], delimiter=separator), [])) for separator in _SEPARATORS}
    best = max(counts, key=lambda separator: (counts[separator], separator == own))
    return best if counts[best] > 1 else own


def _excel(path: Path, faults: list[Fault], notes: list[str], most: int | None) -> list[tuple[int, list[str]]]:
    if not can_read_excel():
        problem = "is an Excel workbook, which is read with the package openpyxl"
        remedy = 'Install it with pip install "fewlabel[excel]", or save the table as .csv'
        faults.append(Fault(problem, str(path), remedy))
        return []
    import openpyxl

    if problem := workbook_problem(path):
        faults.append(_refused(path, problem))
        return []
    # The values of formulas are those that Excel stored. Of a damaged file openpyxl would leave the stream open.
    # Read-only, nothing is made of cells that are not there, nor of merged ones.
    book: Any = openpyxl.load_workbook(io.BytesIO(path.read_bytes()), read_only=True, data_only=True)
    sheets = {sheet.title: _sheet(sheet, path, faults, most) for sheet in book.worksheets}
    book.close()
    filled = {title: lines for title, lines in sheets.items() if lines}
    if len(filled) > 1:
        title = next(iter(filled))
        others = ", ".join(name for name in filled if name != title)
        notes.append(f"{path.name}: the sheet {title} is read, and {others} left out")
    return next(iter(filled.values()), [])


def _refused(path: Path, problem: str) -> Fault:
    return Fault(f"is too large to be read: {problem}", str(path), "Save its filled rows and columns as .csv")


def can_read_excel() -> bool:
    """Whether the package that reads Excel workbooks is installed."""
    return find_spec("openpyxl") is not None


def _sheet(sheet: Any, path: Path, faults: list[Fault], most: int | None) -> list[tuple[int, list[str]]]:
    # What a sheet says of its own extent may be wrong, and is where a stray cell lies.
    sheet.reset_dimensions()
    size = SheetSize(sheet.title)
    lines = []
    for number, cells in enumerate(sheet.iter_rows(values_only=True), start=1):
        filled = [index for index, value in enumerate(cells) if value is not None]
        kept = filled[-1] + 1 if filled else 0
        if problem := size.problem(len(cells), kept, len(filled)):
            faults.append(_refused(path, problem))
            return []
        texts = [_as_text(value) for value in cells[:kept]]
        if any(texts):
            lines.append((number, texts))
        if most is not None and len(lines) > most:
            break
    if lines:
        # Every column has a place in the header.
        lines[0][1].extend([""] * (max(len(texts) for _, texts in lines) - len(lines[0][1])))
    return lines


def _parquet(path: Path, faults: list[Fault], most: int | None) -> list[tuple[int, list[str]]]:
    import pyarrow.parquet

    # Says of a file that is none, or of another kind, what the next line cannot.
    pyarrow.parquet.read_metadata(path)
    try:
        problem = parquet_problem(path)
    except MisfitError as error:
        remedy = "Save it anew with the program that made it, or copy it anew from where it was whole"
        faults.append(Fault(f"its pages are not what its footer says: {error}", str(path), remedy))
        return []
    if problem:
        faults.append(_refused(path, problem))
        return []
    if most is not None:
        table = next(pyarrow.parquet.ParquetFile(path).iter_batches(batch_size=most), None)
        names = list(pyarrow.parquet.read_schema(path).names)
        columns = [] if table is None else [table.column(index).to_pylist() for index in range(len(names))]
    else:
        whole = pyarrow.parquet.read_table(path)
        names, columns = list(whole.column_names), [column.to_pylist() for column in whole.columns]
    kept = [index for index, name in enumerate(names) if not name.startswith("__index_level_")]
    rows = zip(*(columns[index] for index in kept), strict=True) if columns else ()
    # Rows are counted as in text, where the header is line 1.
    body = [(number, [_as_text(value) for value in row]) for number, row in enumerate(rows, start=2)]
    return [(1, [names[index] for index in kept]), *body]


def _as_text(value: Any) -> str:
    """A typed cell as a person would write it: 7.0 as 7, a day without its midnight."""
    if isinstance(value, datetime) and (value.hour, value.minute, value.second) == (0, 0, 0):
        value = value.date()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    known = cleaned(value)
    return "" if known is None else str(known).strip()
