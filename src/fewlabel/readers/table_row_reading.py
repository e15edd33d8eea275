"""What the rows of a table of scans name: files, people, parts and metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault
from fewlabel.data.io.catalog_paths import is_file_path
from fewlabel.data.io.composite_paths import Coloured
from fewlabel.data.io.itk_image import is_scan
from fewlabel.readers.column_names import CHANNEL, PART_WORDS, Meanings, looks_like_files, meanings, no_files
from fewlabel.readers.labels_json import LabelNames
from fewlabel.readers.table_cell_paths import CellFiles
from fewlabel.readers.table_cells import cell, part_of
from fewlabel.readers.table_file import Table
from fewlabel.readers.table_scan_rows import ScanRow, joined_structures

_OWN = ("subject", "case", "part", "slice", "frame")
#: Columns that are metadata where they number nothing.
_NUMBERS = ("slice", "frame")


def scan_rows(
    path: Path,
    table: Table,
    files: CellFiles,
    labels: LabelNames,
    names: dict[int, str],
    faults: list[Fault],
    notes: list[str],
) -> tuple[dict[str, str], list[ScanRow]]:
    """The column of each meaning, and what each row names, with one mask each.

    Args:
        path: Of the table.
        table: Its cells.
        files: Finds the files.
        labels: What values and colours of masks are called.
        names: Label value → name; takes the names of structures.
        faults: Takes what is wrong, by line.
        notes: Takes what columns were taken for.
    """
    cells = {column: [row[column] for _, row in table.rows] for column in table.columns}
    meaning = meanings(cells, str(path), faults, notes, files.is_file)
    before = len(faults)
    _check_masks(meaning, cells, str(path), files, faults)
    without = len(faults) > before
    _check_metadata(meaning, cells, str(path), files, faults)
    known = {word: column for word, column in meaning.known.items() if not (without and word == "label")}
    rows = _rows(path, table, known, files, faults)
    places = [f"{path}, line {row.line}" for row in rows]
    masks = joined_structures([row.masks for row in rows], names, places, faults)
    return meaning.known, [replace(row, label=_coloured(mask, labels)) for row, mask in zip(rows, masks, strict=True)]


def _rows(path: Path, table: Table, known: Mapping[str, str], files: CellFiles, faults: list[Fault]) -> list[ScanRow]:
    """What each row names; rows without an image are left out, which is a fault."""
    image_columns = sorted((word for word in known if _is_image(word)), key=lambda word: (len(word), word))
    if not image_columns and table.rows:
        problem = f"{path} must have a column image that names the scans, but has {', '.join(table.columns)}"
        faults.append(Fault(problem, remedy="Write the paths of the images, relative to the table"))
        return []
    used = {known[word] for word in known if word not in _NUMBERS}
    metadata = [column for column in table.columns if column not in used]
    rows: list[ScanRow] = []
    for line, row in table.rows:
        own: dict[str, Any] = {word: cell(row[known[word]]) if word in known else "" for word in _OWN}
        images = [files.read(part, line, "image") for word in image_columns for part in _parts(row[known[word]], files)]
        masks = (
            [files.read(part, line, "label") for part in _parts(row[known["label"]], files)] if "label" in known else []
        )
        if known.get("part", "part").lower() != "part":
            own["part"] = PART_WORDS.get(own["part"].lower(), own["part"])
        own["part"] = part_of(own["part"], f"{path}, line {line}", faults)
        if not images:
            faults.append(Fault("names no image", f"{path}, line {line}", "Name one, or take the row out"))
        if not images or None in images:
            continue
        rows.append(
            ScanRow(
                line,
                tuple(file for file in images if file is not None),
                masks=tuple(file for file in masks if file is not None),
                subject=own["subject"],
                case=own["case"],
                part=own["part"],
                slice=own["slice"],
                frame=own["frame"],
                metadata={column: row[column] for column in metadata},
            )
        )
    return rows


def _parts(text: str, files: CellFiles) -> list[str]:
    """The files that a cell names, separated by semicolons."""
    return files.parts(cell(text))


def _is_image(word: str) -> bool:
    return word == "image" or CHANNEL.match(word) is not None


def _coloured(mask: Path | None, labels: LabelNames) -> Path | None:
    """A mask with the colours that ``labels.json`` names, but one whose cell says them."""
    plain = mask is not None and is_file_path(mask)
    return Coloured(mask, labels.colours).path if mask is not None and plain and labels.colours else mask


def _check_metadata(
    meaning: Meanings, cells: Mapping[str, list[str]], where: str, files: CellFiles, faults: list[Fault]
) -> None:
    """Columns of image files that have no meaning: they would be left out without a word."""
    for column in meaning.metadata:
        parts = [part for text in cells[column] for part in _parts(text, files)]
        shown = next((part for part in parts if is_scan(Path(part)) and files.is_file(part)), "")
        if shown:
            problem = f"column {column} names image files, such as {shown}, and nothing says what they are"
            remedy = "Call it label if they are masks, image_2 if they are another channel, or remove it"
            faults.append(Fault(problem, where, remedy))


def _check_masks(
    meaning: Meanings, cells: Mapping[str, list[str]], where: str, files: CellFiles, faults: list[Fault]
) -> None:
    """A column called label whose cells are no files at all, but classes of whole scans."""
    label = meaning.known.get("label")
    values = [text for text in cells[label] if cell(text)] if label else []
    if values and not looks_like_files(values, files.is_file):
        faults.append(no_files(meaning.known["label"], "label", values, where))
