"""Rows of 2D pictures that are the slices of one scan, as one scan; voxel sizes that a table gives to pictures."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.catalog_paths import files_behind, is_file_path
from fewlabel.data.io.composite_paths import Coloured, Stack, mask_stack, parse_composite
from fewlabel.readers.column_names import plain_name
from fewlabel.readers.table_scan_rows import ScanRow

Spacing = tuple[float, float, float]
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif")
_SPACING = {
    "slice": "spacingz|zspacing|slicespacing|spacingbetweenslices|slicedistance|slicethickness|thickness"
    "|schichtabstand|schichtdicke|epaisseurcoupe|espacementcoupes|grosorcorte|espesorcorte",
    "row": "spacingy|yspacing|rowspacing|pixelheight",
    "column": "spacingx|xspacing|columnspacing|pixelwidth",
    "plane": "pixelspacing|pixelsize|inplanespacing|pixelabstand|pixelgroße|pixelgroesse|taillepixel|tamanopixel",
}
_AXIS = {word: axis for axis, words in _SPACING.items() for word in words.split("|")}
_NUMBER = re.compile(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_MOST = 3


def with_stacks(
    rows: Sequence[ScanRow],
    column: str,
    slices_of: Callable[[Path], int],
    table: Path,
    faults: list[Fault],
    notes: list[str],
) -> list[ScanRow]:
    """Rows, with those that number the slices of one scan joined in the order of the numbers.

    Only images of one slice are joined; for others the number is metadata like any other. A slice that is there twice
    is a fault, a gap is noted. A column that differs between the slices of a scan is no metadata of the scan and left
    out. Pictures take their voxel size from columns such as ``spacing_z`` and ``pixel_spacing``.

    Args:
        rows: Of the table.
        column: That holds the numbers.
        slices_of: Slices in a file.
        table: The table.
        faults: Takes what is wrong, by line.
        notes: Takes what was assumed.
    """
    groups: dict[tuple[str, ...], list[ScanRow]] = {}
    for row in rows:
        numbered = row.slice and all(slices_of(image) == 1 for image in row.images)
        groups.setdefault((*row.scan, row.frame) if numbered else ("", str(row.line)), []).append(row)
    stacked = any(len(group) > 1 for group in groups.values())
    if stacked:
        _check_numbers(rows, groups, table, faults)
    columns = _spacing_columns(rows)
    joined: list[ScanRow] = []
    varying: dict[str, None] = {}
    unknown = 0
    gone: set[str] = {column} if stacked else set()
    for key, group in groups.items():
        spacing = _spacing_of(group, columns, table, faults) if columns and _is_picture(group[0]) else None
        if spacing is not None:
            gone.update(columns.values())
        if stacked and key[0]:
            unknown += "slice" not in columns
            scan = _stack(group, spacing, table, faults, notes, varying, column)
            joined.extend([scan] if scan is not None else [])
        else:
            joined.extend(group if spacing is None else [_with_spacing(group[0], spacing)])
    if unknown:
        notes.append(
            f"the distance of the slices of {unknown} stacked scans is not known: 1 mm is assumed. Columns spacing_z "
            "and pixel_spacing in mm say it"
        )
    if varying:
        notes.append(f"{', '.join(varying)} differ between the slices of a scan: not used as metadata")
    gone |= set(varying)
    return [replace(row, metadata={k: v for k, v in row.metadata.items() if k not in gone}) for row in joined]


def _stack(
    group: list[ScanRow],
    spacing: Spacing | None,
    table: Path,
    faults: list[Fault],
    notes: list[str],
    varying: dict[str, None],
    numbers_in: str,
) -> ScanRow | None:
    words = [part for part in group[0].scan if part] + ([f"frame{group[0].frame}"] if group[0].frame else [])
    name = " ".join(words)
    ordered = sorted(group, key=lambda row: float(row.slice))
    numbers = [float(row.slice) for row in ordered]
    before = len(faults)
    for first, second in pairwise(ordered):
        if float(first.slice) == float(second.slice):
            problem = f"slice {second.slice} of {name} is there already, in line {first.line}"
            remedy = "Keep one of the two, or tell scans of one person apart by a column case"
            faults.append(Fault(problem, f"{table}, line {second.line}", remedy))
    _check_group(ordered, name, table, faults)
    if len(faults) > before:
        return None
    gaps = _gaps(numbers)
    if gaps:
        shown = ", ".join(gaps[:_MOST]) + (" …" if len(gaps) > _MOST else "")
        notes.append(f"{name} has no slice {shown}: its neighbours are taken as next to each other")
    first = ordered[0]
    for column in first.metadata:
        if column != numbers_in and len({row.metadata.get(column, "") for row in ordered}) > 1:
            varying[column] = None
    images = tuple(
        Stack(tuple(row.images[channel] for row in ordered), spacing).path for channel in range(len(first.images))
    )
    label = _stacked_masks([row.label for row in ordered], spacing)
    # Without a person or a name, the files give one.
    case = "_".join(words) if first.case or first.subject else ""
    return replace(first, images=images, label=label, case=case, slice="", frame="")


def _stacked_masks(masks: Sequence[Path | None], spacing: Spacing | None) -> Path | None:
    """The mask of a stack, some of whose slices may have none; colours that stand for classes are those of all."""
    kinds = [None if mask is None else parse_composite(mask) for mask in masks]
    coloured = next((kind for kind in kinds if isinstance(kind, Coloured)), None)
    files = [kind.file if isinstance(kind, Coloured) else mask for kind, mask in zip(kinds, masks, strict=True)]
    stack = mask_stack(files, spacing)
    if stack is None or coloured is None:
        return None if stack is None else stack.path
    return Coloured(stack.path, coloured.colours).path


def _check_numbers(
    rows: Sequence[ScanRow], groups: Mapping[tuple[str, ...], list[ScanRow]], table: Path, faults: list[Fault]
) -> None:
    """Rows without a number that belong to a scan whose other slices have one."""
    for row in rows:
        key = (*row.scan, row.frame)
        if not row.slice and len(groups.get(key, ())) > 1:
            problem = f"names no slice number, as other slices of {' '.join(filter(None, key))} do"
            faults.append(Fault(problem, f"{table}, line {row.line}", "Number it, or take it out"))


def _check_group(ordered: list[ScanRow], name: str, table: Path, faults: list[Fault]) -> None:
    """Rows of one scan agree in their subject, part and channels."""
    first = ordered[0]
    for row in ordered[1:]:
        for what in ("subject", "part"):
            one, other = getattr(first, what), getattr(row, what)
            if one != other:
                problem = f"{name} has the {what} {other or 'train'}, but {one or 'train'} in line {first.line}"
                faults.append(Fault(problem, f"{table}, line {row.line}", "All slices of a scan need the same"))
        if len(row.images) != len(first.images):
            problem = f"has {len(row.images)} channels, but {len(first.images)} in line {first.line}"
            faults.append(Fault(problem, f"{table}, line {row.line}"))
    composed = [row for row in ordered if row.label is not None and _is_composed(row.label)]
    if composed:
        problem = f"the mask of {name} has one file for each structure, which slices cannot have"
        faults.append(Fault(problem, f"{table}, line {composed[0].line}", "Write masks of numbers, one for each slice"))


def _is_composed(label: Path) -> bool:
    composite = parse_composite(label)
    return not (is_file_path(label) or (isinstance(composite, Coloured) and composite.stack is None))


def _gaps(numbers: list[float]) -> list[str]:
    """Numbers that are missing from an otherwise even row."""
    steps = [second - first for first, second in pairwise(numbers)]
    usual = sorted(steps)[len(steps) // 2] if steps else 0.0
    missing: list[str] = []
    for first, step in zip(numbers, steps, strict=False):
        missing.extend(f"{first + usual * k:g}" for k in range(1, min(round(step / usual), _MOST + 2)))
    return missing


def _spacing_columns(rows: Sequence[ScanRow]) -> dict[str, str]:
    """Axis → the column that gives its voxel size; distances of slices go before their thickness."""
    names = [name for name in (rows[0].metadata if rows else {}) if plain_name(name) in _AXIS]
    order = list(_AXIS)
    columns: dict[str, str] = {}
    for name in sorted(names, key=lambda name: order.index(plain_name(name))):
        columns.setdefault(_AXIS[plain_name(name)], name)
    return columns


def _spacing_of(group: list[ScanRow], columns: dict[str, str], table: Path, faults: list[Fault]) -> Spacing | None:
    """Voxel size in mm along (slice, row, column); None where no row gives one."""
    first: dict[str, tuple[float, ...]] = {}
    for row in group:
        for axis, column in columns.items():
            text = row.metadata.get(column, "")
            if not text:
                continue
            sizes = _sizes(text)
            place = f"{table}, line {row.line}"
            if not sizes or min(sizes) <= 0 or len(sizes) > (2 if axis == "plane" else 1):
                faults.append(Fault(f'{column} must be a size in mm above 0, not "{text}"', place))
            elif first.setdefault(axis, sizes) != sizes:
                problem = f"{column} is {text}, but {first[axis][0]:g} for another slice of the scan"
                faults.append(Fault(problem, place, "Slices of a scan need one voxel size"))
    if not first:
        return None
    plane = first.get("plane", (1.0,))
    row_size, column_size = first.get("row", plane)[0], first.get("column", plane)[-1]
    return first.get("slice", (1.0,))[0], row_size, column_size


def _sizes(text: str) -> tuple[float, ...]:
    if re.fullmatch(r"\d+,\d+", text):
        text = text.replace(",", ".")
    return () if "-" in text else tuple(float(part) for part in _NUMBER.findall(text))


def _is_picture(row: ScanRow) -> bool:
    return all(image.name.lower().endswith(PICTURES) for image in row.images)


def _with_spacing(row: ScanRow, spacing: Spacing) -> ScanRow:
    images = tuple(Stack((image,), spacing).path for image in row.images)
    pictures = row.label is not None and all(file.name.lower().endswith(PICTURES) for file in files_behind(row.label))
    label = _stacked_masks([row.label], spacing) if pictures and row.label is not None else row.label
    return replace(row, images=images, label=label)
