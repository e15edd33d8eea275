"""A catalog as the table that reads the same: what was recognised, to be corrected by hand."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.settings.base import PathSetting, Settings, setting
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.composite_paths import Coloured, Frame, Stack, Structures, parse_composite
from fewlabel.readers.base import UnknownLayoutError, collect_catalog
from fewlabel.readers.listing import scans_below

_OWN = ("image", "label", "subject", "case", "part", "frame", "slice", "spacing_z", "spacing_y", "spacing_x")
_MOST_NAMES = 60


class TableSettings(Settings):
    """What to write a table of."""

    data: PathSetting = setting(..., "Folder of scans.")
    reader: str | dict[str, Any] = setting("auto", "Reader by id, or auto to choose by the look of the folder.")


@dataclass(frozen=True)
class WrittenTable:
    """A table of scans.

    Attributes:
        text: CSV, with a header.
        notes: What was assumed, what is wrong with the data set, and what the table cannot hold.
    """

    text: str
    notes: tuple[str, ...]


def write_table(root: Path, reader: str | Mapping[str, Any] = "auto") -> WrittenTable:
    """The table of what a reader recognises in a folder; where none fits, of all its images.

    Paths are as ``root`` is given: relative to the working folder, where that is. A row is a scan, a slice of a volume
    made of pictures, or a frame of a 4D image, as :class:`fewlabel.readers.table.TableReader` reads them.

    Args:
        root: Folder of scans.
        reader: As in :func:`fewlabel.readers.base.choose_reader`.

    Raises:
        DataError: If nothing can be read, or names of files hold semicolons.
    """
    notes: list[str] = []
    try:
        choice, catalog = collect_catalog(root, reader)
        notes.append(f"reader {choice.name}: {'; '.join(choice.match.reasons)}")
    except UnknownLayoutError:
        if not root.is_dir() or not scans_below(root):
            raise
        _, catalog = collect_catalog(root, "folders")
        notes.append("no reader fits: the table names all images, and the masks that were told by their names")
    if not catalog.cases:
        raise DataError(f"There are no scans to write a table of in {root}:", catalog.faults)
    notes.extend(catalog.notes)
    notes.extend(f"wrong, and not in the table: {fault}" for fault in catalog.faults)
    rows = [row for case in catalog.cases for row in _rows(case, catalog, root)]
    notes.extend(_beside(catalog))
    return WrittenTable(_csv(rows, catalog), tuple(notes))


def _rows(case: Case, catalog: Catalog, root: Path) -> list[dict[str, str]]:
    """The rows of a scan: one, or one for each slice."""
    names = {column.name: _column(column.name) for column in catalog.columns}
    shared = {
        "subject": case.subject,
        "case": case.id,
        "part": case.part,
        **{names[name]: "" if value is None else str(value) for name, value in case.metadata.items() if name in names},
    }
    images = [parse_composite(path) for path in case.images]
    label = None if case.label is None else parse_composite(case.label)
    first = images[0]
    if isinstance(first, Stack):
        stacks = [image.files for image in images if isinstance(image, Stack)]
        masks = _masks(case.label, len(first.files))
        size = first.spacing
        spacing = {} if size is None else dict(zip(_OWN[-3:], map(str, size), strict=True))
        return [
            {
                **shared,
                "image": _cell([files[number] for files in stacks], root),
                "label": _cell([masks[number]], root),
                "slice": str(number + 1),
                **spacing,
            }
            for number in range(len(first.files))
        ]
    row = {**shared, "image": _cell([_plain(path) for path in case.images], root), "label": ""}
    if isinstance(first, Frame):
        row["frame"] = str(first.index + 1)
        # The table reader names a frame after its scan.
        row["case"] = case.id.removesuffix(f"_frame{first.index + 1:02d}")
    if isinstance(label, Structures):
        row["label"] = _cell([file for _, file in label.parts], root)
    elif case.label is not None:
        row["label"] = _cell([_plain(case.label)], root)
    return [row]


def _masks(label: Path | None, count: int) -> Sequence[Path | None]:
    """The mask of each slice of a stack."""
    composite = None if label is None else parse_composite(label)
    if isinstance(composite, Coloured):
        stack = composite.stack
        files = composite.files if stack is None else stack.slices
        return [None if file is None else Coloured(file, composite.colours).path for file in files]
    return composite.slices if isinstance(composite, Stack) else [label] * count


def _plain(path: Path) -> Path:
    """The file of a frame; else the path as it is, of an array in a file or of a coloured mask too."""
    composite = parse_composite(path)
    return composite.file if isinstance(composite, Frame) else path


def _cell(files: Sequence[Path | None], root: Path) -> str:
    return ";".join(_as_given(file, root) for file in files if file is not None)


def _as_given(file: Path, root: Path) -> str:
    """A path that begins as the folder was given."""
    text = str(file) if root.is_absolute() else os.path.relpath(file)
    if ";" in text:
        problem = f"{text} has a semicolon in its name, which separates files in a table"
        raise DataError("A table cannot be written:", [Fault(problem, remedy="Rename it")])
    return text


def _column(name: str) -> str:
    return f"{name} of the scan" if name.lower() in _OWN else name


def _csv(rows: Sequence[Mapping[str, str]], catalog: Catalog) -> str:
    used = {name for row in rows for name, value in row.items() if value}
    own = [name for name in _OWN if name in used or name in {"image", "label", "subject"}]
    columns = [*own, *(_column(column.name) for column in catalog.columns)]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _beside(catalog: Catalog) -> list[str]:
    """What the table itself does not hold."""
    notes = []
    structures = any(case.label and isinstance(parse_composite(case.label), Structures) for case in catalog.cases)
    if catalog.label_names and not structures and len(catalog.label_names) <= _MOST_NAMES:
        named = {str(value): name for value, name in sorted(catalog.label_names.items())}
        text = json.dumps(named, ensure_ascii=False)
        notes.append(f"for the names of the classes, write into labels.json beside the table: {text}")
    if len(catalog.channels) > 1:
        notes.append(f"channels are {', '.join(catalog.channels)}; a table does not keep their names")
    return notes
