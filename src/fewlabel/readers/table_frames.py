"""Rows of a table that number a frame of a 4D image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.axis_count import fourth_axis
from fewlabel.data.io.catalog_paths import is_file_path, scan_stem, shown
from fewlabel.data.io.composite_paths import Frame
from fewlabel.readers.table_scan_rows import ScanRow


def with_named_frames(
    rows: Sequence[ScanRow], column: str, table: Path, faults: list[Fault], notes: list[str]
) -> list[ScanRow]:
    """Rows, with those that number a frame of a 4D image standing for that frame.

    Frames count from 1, or from 0 where one is called so. Where no image has frames the number is metadata like any
    other. A 4D mask has a frame for each of the image's; a 3D mask is that of the frame.

    Args:
        rows: Of the table.
        column: That holds the numbers.
        table: The table.
        faults: Takes numbers that are no frame, and frames that are there twice.
        notes: Takes how frames are counted.
    """
    _check_twice(rows, table, faults)
    lengths = [_length(row) if row.frame else 1 for row in rows]
    numbers = [row.frame for row, length in zip(rows, lengths, strict=True) if length > 1]
    if not numbers:
        return list(rows)
    start = 0 if any(_whole(number) == 0 for number in numbers) else 1
    notes.append(f"{table.name}: the frames of a cine are counted from {start}")
    scans: list[ScanRow] = []
    for row, length in zip(rows, lengths, strict=True):
        plain = replace(row, metadata={key: value for key, value in row.metadata.items() if key != column})
        if length == 1:
            scans.append(plain)
            continue
        number = _whole(row.frame)
        masks = 1 if row.label is None or not is_file_path(row.label) else fourth_axis(row.label)
        place = f"{table}, line {row.line}"
        if number is None or not start <= number < length + start:
            problem = f"{shown(row.images[0])} has {length} frames, so there is no frame {row.frame}"
            faults.append(Fault(problem, place, f"Frames count from {start}"))
        elif masks not in {1, length}:
            problem = f"the label {row.label} has {masks} frames, but {shown(row.images[0])} has {length}"
            faults.append(Fault(problem, place, "Give a mask of one frame, or one with a frame for each"))
        else:
            scans.append(_frame(plain, number - start, masks))
    return scans


def _frame(row: ScanRow, index: int, masks: int) -> ScanRow:
    source = row.case or scan_stem(row.images[0])
    label = row.label if row.label is None or masks == 1 else Frame(row.label, index).path
    images = tuple(Frame(image, index).path for image in row.images)
    return replace(row, images=images, label=label, case=f"{source}_frame{index + 1:02d}", frame="", source=source)


def _length(row: ScanRow) -> int:
    lengths = {fourth_axis(image) if is_file_path(image) else 1 for image in row.images}
    return lengths.pop() if len(lengths) == 1 else 1


def _check_twice(rows: Sequence[ScanRow], table: Path, faults: list[Fault]) -> None:
    """Two rows for one frame of one scan, with one file or two."""
    first: dict[tuple[object, ...], ScanRow] = {}
    for row in rows:
        if not row.frame:
            continue
        key = (row.scan if row.subject or row.case else row.images, row.frame, *sorted(row.metadata.items()))
        before = first.setdefault(key, row)
        if before is not row:
            files = " and ".join(dict.fromkeys((shown(before.images[0]), shown(row.images[0]))))
            problem = f"frame {row.frame} of {' '.join(filter(None, row.scan))} is there already, in line {before.line}"
            faults.append(Fault(f"{problem}: {files}", f"{table}, line {row.line}", "Keep one of the two"))


def _whole(text: str) -> int | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return int(number) if number.is_integer() else None
