"""A table of scans: one row per scan, with free metadata columns."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any, ClassVar

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.columns import infer_columns
from fewlabel.data.io.volume import scan_stem
from fewlabel.data.subjects import guess_subjects
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.cells import cell, known_columns, part_of, read_text

_SUFFIXES = (".csv", ".tsv", ".parquet")
_IMAGE = re.compile(r"image(_\d+)?$")
_OWN = ("case", "subject", "label", "part")
_UNSAFE = re.compile(r"[^\w.\-]+")


class TableReader(Reader):
    """A CSV, TSV or Parquet file, or a folder with one that has a column ``image``.

    Columns: ``image`` (path relative to the table; several channels as ``image``, ``image_2``, … or separated by
    ``;``), and where wanted ``label`` (empty: unlabelled), ``subject``, ``case`` (a name; else the file's),
    ``part`` (``validation`` and ``test`` keep the scan for that; ``train`` or empty) and any metadata. These names are
    known in any case. Kinds of metadata columns, and what counts as a missing value in all of them, follow
    :func:`fewlabel.data.columns.infer_columns`. Without a ``subject`` the rule of
    :func:`fewlabel.data.subjects.guess_subjects` finds siblings by case name. Text is UTF-8. A file ``labels.json``
    beside the table may name the label values: ``{"1": "left ventricle"}``.
    """

    class Config(Reader.Config):
        """No settings."""

        name: str = "table"

    summary: ClassVar[str] = "a CSV, TSV or Parquet table with columns image, label, subject and any metadata"

    @classmethod
    def match(cls, root: Path) -> Match:
        """By a column ``image`` in the header."""
        if root.is_file():
            if root.suffix.lower() not in _SUFFIXES:
                return Match(0.0, ("not a .csv, .tsv or .parquet file",))
            return Match(1.0, ("a table with a column image",)) if _has_images(root) else _no_column(root)
        tables = _tables(root)
        fitting = [path for path in tables if _has_images(path)]
        if len(fitting) == 1:
            return Match(0.85, (f"{fitting[0].name} has a column image",))
        if fitting:
            return Match(0.4, (f"several tables: {', '.join(path.name for path in fitting)}; give one of them",))
        return _no_column(tables[0]) if tables else Match(0.0, ("no .csv, .tsv or .parquet table",))

    def read(self, root: Path) -> Catalog:
        """One case per row."""
        path = _table_of(root)
        faults: list[Fault] = []
        frame = _load(path, faults)
        rows: list[dict[str, Any]] = [
            {str(key): value for key, value in row.items()} for row in frame.to_dict("records")
        ]
        names = [str(column) for column in frame.columns]
        if not rows:
            faults.append(Fault(f"{path} has no rows, but needs one per scan"))
        image_columns = sorted((name for name in names if _IMAGE.match(name)), key=lambda name: (len(name), name))
        images = [_images(row, image_columns, path, line, faults) for line, row in enumerate(rows, start=2)]
        ids = _case_ids(rows, images)
        subjects = guess_subjects(ids)
        metadata = [name for name in names if name not in _OWN and name not in image_columns]
        columns, typed = infer_columns({name: [row[name] for row in rows] for name in metadata}, path.name)
        cases = []
        for index, row in enumerate(rows):
            label = cell(row.get("label"))
            cases.append(
                Case(
                    id=ids[index],
                    subject=cell(row.get("subject")) or subjects[ids[index]],
                    images=images[index],
                    label=_file(path, label, index + 2, "label", faults) if label else None,
                    metadata={name: values[index] for name, values in typed.items()},
                    part=part_of(row.get("part"), f"{path}, line {index + 2}", faults),
                )
            )
        label_names = _label_names(path.with_name("labels.json"), faults)
        if faults:
            raise DataError("The table cannot be read:", faults)
        most = max(len(case.images) for case in cases)
        return Catalog(
            name=path.stem,
            root=path.parent,
            reader="table",
            cases=tuple(sorted(cases, key=lambda case: case.id)),
            columns=columns,
            label_names=label_names,
            channels=("image",) if most == 1 else tuple(f"channel {index}" for index in range(most)),
        )


def _label_names(path: Path, faults: list[Fault]) -> dict[int, str]:
    if not path.is_file():
        return {}
    try:
        return {int(value): str(name) for value, name in json.loads(path.read_text()).items()}
    except (OSError, ValueError, AttributeError) as error:
        problem = f"{path} does not map label values to names ({reason(error)})"
        faults.append(Fault(problem, remedy='Write it like {"1": "liver"}'))
        return {}


def _tables(root: Path) -> list[Path]:
    files = (path for path in root.iterdir() if path.is_file() and not path.name.startswith("."))
    return sorted(path for path in files if path.suffix.lower() in _SUFFIXES)


def _table_of(root: Path) -> Path:
    if root.is_file():
        return root
    fitting = [path for path in _tables(root) if _has_images(path)]
    if len(fitting) != 1:
        names = ", ".join(path.name for path in fitting) or "none"
        problem = f"{root} must hold one table with a column image, but holds {names}"
        raise DataError("The table cannot be read:", [Fault(problem, remedy="Give the table file itself")])
    return fitting[0]


def _no_column(path: Path) -> Match:
    # A byte that is no UTF-8 becomes this character.
    text = "\ufffd" not in _header(path)
    return Match(0.2, (f"{path.name} has no column image" if text else f"{path.name} is not UTF-8 text",))


def _has_images(path: Path) -> bool:
    try:
        if path.suffix.lower() == ".parquet":
            import pyarrow.parquet

            names = list(pyarrow.parquet.read_schema(path).names)
        else:
            names = _header(path).strip().split("\t" if path.suffix.lower() == ".tsv" else ",")
    except (OSError, ValueError):
        return False
    return "image" in [str(word).strip().strip('"').lower() for word in names]


def _header(path: Path) -> str:
    """The first line of a text table, in any encoding: only reading all of it checks that."""
    if path.suffix.lower() == ".parquet":
        return ""
    with path.open(encoding="utf-8-sig", errors="replace") as stream:
        return stream.readline()


def _known(name: str) -> bool:
    return name in _OWN or _IMAGE.match(name) is not None


def _load(path: Path, faults: list[Fault]) -> Any:
    import pandas as pd

    try:
        if path.suffix.lower() == ".parquet":
            frame = pd.read_parquet(path).rename(columns=str)
        else:
            text = read_text(path, faults)
            separator = "\t" if path.suffix.lower() == ".tsv" else ","
            faults.extend(_wide_rows(text, separator, path))
            if faults:
                raise DataError("The table cannot be read:", faults)
            # As text: "007" is a name, and the kinds of the columns are told apart later.
            frame = pd.read_csv(io.StringIO(text), sep=separator, dtype=str, keep_default_na=False)
    except (OSError, ValueError, csv.Error) as error:
        fault = Fault(f"{path} is not a readable table ({reason(error)})")
        raise DataError("The table cannot be read:", [fault]) from error
    return frame.rename(columns=known_columns(map(str, frame.columns), _known, str(path), faults))


def _wide_rows(text: str, separator: str, path: Path) -> list[Fault]:
    """Rows with more cells than columns: pandas would take their first cells as an index and shift the rest."""
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    wanted, remedy = len(next(rows, [])), "Quote the cell that holds the separator, or take the last one off"
    widths = ((rows.line_num, len(row)) for row in rows)
    return [
        Fault(f"has {cells} cells for {wanted} columns", f"{path}, line {line}", remedy)
        for line, cells in widths
        if cells > wanted
    ]


def _images(row: dict[str, Any], columns: list[str], path: Path, line: int, faults: list[Fault]) -> tuple[Path, ...]:
    parts = [part for column in columns for part in cell(row[column]).split(";") if part.strip()]
    if not parts:
        faults.append(Fault("names no image", f"{path}, line {line}"))
    return tuple(_file(path, part.strip(), line, "image", faults) for part in parts)


def _file(table: Path, text: str, line: int, column: str, faults: list[Fault]) -> Path:
    path = table.parent / text
    if not path.is_file():
        faults.append(Fault(f"the {column} {path} does not exist", f"{table}, line {line}"))
    return path


def _case_ids(rows: list[dict[str, Any]], images: list[tuple[Path, ...]]) -> list[str]:
    """The ``case`` column; else the file name, led by its folders as far as needed to tell files apart."""
    given = [cell(row.get("case")) for row in rows]
    stems = [scan_stem(paths[0]) if paths else "" for paths in images]
    for depth in range(4):
        if len(set(stems)) == len(stems):
            break
        stems = [
            f"{paths[0].parents[depth].name}_{stem}" if paths and depth < len(paths[0].parents) else stem
            for paths, stem in zip(images, stems, strict=True)
        ]
    return [_UNSAFE.sub("_", name or stem) for name, stem in zip(given, stems, strict=True)]
