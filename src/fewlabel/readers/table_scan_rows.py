"""Rows of a table of scans: what each names, and rows that share an image or a person."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.composite_paths import Structures
from fewlabel.readers.column_names import plain_name

_UNSAFE = re.compile(r"[^\w.\-]+")
#: Columns that set two scans of one person apart.
_APART = re.compile(
    r"(visit|session|ses|series|seriesuid|seriesinstanceuid|study|studyuid|studyinstanceuid|scan|scanid|timepoint"
    r"|date|phase|view|volume|run|acquisition|eye|side|besuch|sitzung|serie|untersuchung|zeitpunkt|datum|auge|seite"
    r"|visite|seance|examen|oeil|cote|visita|sesion|estudio|fecha|ojo|lado|fase)$"
)


@dataclass(frozen=True)
class ScanRow:
    """What a row names; several rows may become one scan, and one row several.

    Attributes:
        line: Of the table.
        images: One path per channel.
        masks: Its mask files as named; several are one per structure.
        label: The mask, or None.
        subject: As written, or empty.
        case: Name, or empty.
        part: ``""``, ``"validation"`` or ``"test"``.
        slice: Number of the slice, or empty.
        frame: Number of the frame, or empty.
        metadata: Column → text.
        source: What the file is called that several scans come from, or empty.
    """

    line: int
    images: tuple[Path, ...]
    masks: tuple[Path, ...] = ()
    label: Path | None = None
    subject: str = ""
    case: str = ""
    part: str = ""
    slice: str = ""
    frame: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    @property
    def scan(self) -> tuple[str, ...]:
        """What rows of one scan have in common."""
        if self.case:
            return (self.case,)
        apart = [value for name, value in self.metadata.items() if _APART.match(plain_name(name)) and value]
        if self.subject:
            return (self.subject, *apart)
        image = self.images[0]
        return (image.parent.name, scan_stem(image).rstrip("0123456789").rstrip("_-. "), *apart)


def case_ids(rows: Sequence[ScanRow]) -> list[str]:
    """The name that a row gives; else that of its file, led by its folders as far as needed to tell files apart."""
    stems = [scan_stem(row.images[0]) for row in rows]
    for depth in range(4):
        if len(set(stems)) == len(stems):
            break
        stems = [
            f"{row.images[0].parents[depth].name}_{stem}" if depth < len(row.images[0].parents) else stem
            for row, stem in zip(rows, stems, strict=True)
        ]
    return [_UNSAFE.sub("_", row.case or stem) for row, stem in zip(rows, stems, strict=True)]


def joined_structures(
    masks: Sequence[tuple[Path, ...]], names: dict[int, str], where: Sequence[str], faults: list[Fault]
) -> list[Path | None]:
    """One mask per row where rows name a mask file for each structure; the files' names become those of the classes.

    Args:
        masks: Mask files of each row.
        names: Label value → name; values are taken from it where it has a structure's name, and completed.
        where: Place of each row.
        faults: Takes rows that name a structure twice.
    """
    if all(len(files) <= 1 for files in masks):
        return [files[0] if files else None for files in masks]
    structures = _structure_names(masks)
    values = {name: value for value, name in names.items() if value != 0}
    for name in sorted({name for row in structures for name in row}):
        if name not in values:
            values[name] = max(values.values(), default=0) + 1
    names.update({value: name for name, value in values.items()})
    joined: list[Path | None] = []
    for files, row, place in zip(masks, structures, where, strict=True):
        twice = sorted({name for name in row if row.count(name) > 1})
        if twice:
            faults.append(Fault(f"names the structure {', '.join(twice)} twice", place, "Keep one mask of each"))
        parts = sorted((values[name], file) for name, file in zip(row, files, strict=True))
        joined.append(Structures(tuple(parts)).path if parts else None)
    return joined


def _structure_names(masks: Sequence[tuple[Path, ...]]) -> list[list[str]]:
    """What the mask files of each row are called, without what all masks of a scan have in common."""
    rows = [[scan_stem(file) for file in files] for files in masks]
    several = [_without_common(row) for row in rows if len(row) > 1]
    known = sorted({name for row in several for name in row}, key=len, reverse=True)
    named = iter(several)
    return [
        next(named) if len(row) > 1 else [next((name for name in known if _holds(stem, name)), stem) for stem in row]
        for row in rows
    ]


def _without_common(stems: list[str]) -> list[str]:
    """Names without the words that all begin or end with."""
    words = [re.split(r"[_\-. ]+", stem) for stem in stems]
    shortest = min(len(row) for row in words)
    first = next((i for i in range(shortest) if len({row[i] for row in words}) > 1), 0)
    last = next((i for i in range(shortest - first) if len({row[-1 - i] for row in words}) > 1), 0)
    return ["_".join(row[first : len(row) - last]) or stem for row, stem in zip(words, stems, strict=True)]


def _holds(stem: str, name: str) -> bool:
    """Whether the words of a name follow each other in a file's."""
    words = "_".join(re.split(r"[_\-. ]+", stem))
    return f"_{name}_" in f"_{words}_"
