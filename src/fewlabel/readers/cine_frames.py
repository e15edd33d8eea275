"""Rows that name a file with time points: one scan for each frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.catalog_paths import is_file_path, scan_stem, shown
from fewlabel.data.io.composite import Frame
from fewlabel.readers.scan_rows import ScanRow

#: Parts of the time of a cine, as classes of a metadata column.
TIME_PARTS = 4
PHASE = "phase"


def with_frames(
    rows: Sequence[ScanRow],
    column: str,
    frames_of: Callable[[Path], int],
    table: Path,
    faults: list[Fault],
    notes: list[str],
) -> tuple[list[ScanRow], bool]:
    """Rows, with one for each frame of a 4D image, and whether there is a 4D image at all.

    A row whose ``frame`` is a number is that frame; one without stands for all frames of its file. A 3D mask then
    belongs to the first. Frames that come from all of a cine have the quarter of the cine's time as their ``phase``
    where the table has no such column.

    Args:
        rows: Of the table.
        column: That holds the numbers; metadata like any other where no image has frames.
        frames_of: Time points in a file.
        table: The table.
        faults: Takes numbers that are no frame, and frames that are there twice.
        notes: Takes how frames are counted and whose the masks are.
    """
    lengths = [_length(row, frames_of) for row in rows]
    _check_twice(rows, table, faults)
    if all(length == 1 for length in lengths):
        return list(rows), False
    numbers = [row.frame for row, length in zip(rows, lengths, strict=True) if row.frame and length > 1]
    start = 0 if any(_whole(number) == 0 for number in numbers) else 1
    if numbers:
        notes.append(f"{table.name}: the frames of a cine are counted from {start}")
    phased = not any(PHASE in (name.lower() for name in row.metadata) for row in rows)
    rows = [replace(row, metadata={k: v for k, v in row.metadata.items() if k != column}) for row in rows]
    scans: list[ScanRow] = []
    assumed = 0
    for row, length in zip(rows, lengths, strict=True):
        if length == 1:
            scans.append(replace(row, metadata={**row.metadata, **({PHASE: ""} if phased else {})}))
            continue
        masks = 1 if row.label is None or not is_file_path(row.label) else frames_of(row.label)
        place = f"{table}, line {row.line}"
        if masks not in {1, length}:
            problem = f"the label {row.label} has {masks} frames, but {shown(row.images[0])} has {length}"
            faults.append(Fault(problem, place, "Give a mask of one frame, or one with a frame for each"))
            continue
        if row.frame:
            index = _whole(row.frame)
            if index is None or not start <= index < length + start:
                problem = f"{shown(row.images[0])} has {length} frames, so there is no frame {row.frame}"
                faults.append(Fault(problem, place, f"Frames count from {start}"))
                continue
            indices = [index - start]
        else:
            indices = list(range(length))
            assumed += masks == 1 and row.label is not None
        for index in indices:
            first = masks == 1 and (row.frame or index == 0)
            label = row.label if first else None if masks == 1 or row.label is None else Frame(row.label, index).path
            scans.append(_frame(row, index, length, label, phased=phased))
    if assumed:
        notes.append(
            f"{table.name}: {assumed} masks of a cine have no frame of their own and are taken as those of the "
            "first; a column frame says otherwise"
        )
    return scans, True


def _frame(row: ScanRow, index: int, length: int, label: Path | None, *, phased: bool) -> ScanRow:
    source = row.case or scan_stem(row.images[0])
    metadata = {**row.metadata, **({PHASE: str(TIME_PARTS * index // length)} if phased else {})}
    images = tuple(Frame(image, index).path for image in row.images)
    name = f"{source}_frame{index + 1:02d}"
    return replace(row, images=images, label=label, case=name, metadata=metadata, frame="", source=source)


def _length(row: ScanRow, frames_of: Callable[[Path], int]) -> int:
    lengths = {frames_of(image) if is_file_path(image) else 1 for image in row.images}
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
