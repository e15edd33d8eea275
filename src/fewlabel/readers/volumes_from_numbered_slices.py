"""Numbered pictures as slices of volumes, for readers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from fewlabel.core.errors import Fault
from fewlabel.data.io.axis_count import slice_size
from fewlabel.data.io.composite_paths import Stack, mask_stack
from fewlabel.readers.pairing import PairedScan
from fewlabel.readers.slice_number_detection import (
    NumberedName,
    Place,
    are_volumes,
    gaps_between,
    numbered_name,
    patients_of_slices,
    series_of,
)
from fewlabel.readers.unrelated_pictures import why_unrelated

Stacking = Literal["auto", "always", "never"]
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_MOST_SHOWN = 3


@dataclass(frozen=True)
class Row:
    """Pictures of one volume, or one without a number.

    Attributes:
        home: Folders of the volume.
        name: What the names of its pictures begin with; the name of one without a number.
        scans: By number.
        numbers: Of the pictures; empty for one that has none.
    """

    home: tuple[str, ...]
    name: str
    scans: tuple[PairedScan, ...]
    numbers: tuple[int, ...]

    @property
    def gaps(self) -> str:
        """Where numbers do not follow each other at the usual step; empty where they do."""
        return ", ".join(f"{low} then {high}" for low, high in gaps_between(self.numbers)[:_MOST_SHOWN])


def rows_of_slices(scans: Sequence[PairedScan], root: Path, stacking: Stacking, notes: list[str]) -> tuple[Row, ...]:
    """The volumes that numbered pictures make up; none where they are pictures of their own.

    ``auto`` follows :func:`fewlabel.readers.slice_number_detection.are_volumes`, and looks at the pictures where no
    word says that they are slices (:mod:`fewlabel.readers.unrelated_pictures`). A picture without a number is a row of
    its own.

    Args:
        scans: Pictures with their masks, one file each.
        root: Folder that their paths are relative to.
        stacking: ``always`` asks for numbers only.
        notes: Takes why pictures that are numbered like slices are none.
    """
    if stacking == "never" or not scans or not all(is_picture(scan) for scan in scans):
        return ()
    names, places = _names_and_places(scans)
    series = series_of(names, places)
    unnumbered = [scan for scan, name in zip(scans, names, strict=True) if name is None]
    if stacking == "auto" and not are_volumes(series, len(scans), lambda at: slice_size(root / scans[at].first.path)):
        return ()
    if stacking == "auto" and not all(each.by_word for each in series):
        why = why_unrelated([[root / scans[index].first.path for index in each.members] for each in series])
        if why:
            notes.append(
                f"pictures are numbered as slices are, but {why}: each is a scan of its own. If they are the slices of "
                "volumes, give reader.name=folders reader.stack=always"
            )
            return ()
    rows = [
        Row(each.place[1], each.name, tuple(scans[index] for index in each.members), each.numbers) for each in series
    ]
    return (*rows, *(Row(scan.first.home, scan.first.bare or scan.name, (scan,), ()) for scan in unnumbered))


def stacked(
    row: Row, root: Path, spacing: tuple[float, float, float] | None, faults: list[Fault]
) -> tuple[Path, Path | None]:
    """Image and label of a volume; slices without a mask are not annotated, and without any there is no label."""
    _check_numbers(row, root, faults)
    image = Stack(tuple(root / scan.first.path for scan in row.scans), spacing).path
    label = mask_stack([root / scan.masks[0].path if scan.masks else None for scan in row.scans], spacing)
    return image, None if label is None else label.path


def slice_notes(rows: Iterable[Row], spacing: object) -> list[str]:
    """What was assumed of volumes made of pictures."""
    rows = tuple(rows)
    volumes = [row for row in rows if row.numbers]
    if not volumes:
        return []
    count = sum(len(row.scans) for row in volumes)
    notes = [
        f"{count} numbered pictures are slices of {len(volumes)} volumes, in the order of their numbers. If each is a "
        "scan of its own, give reader.name=folders reader.stack=never"
    ]
    if spacing is None:
        notes.append(
            "pictures hold no voxel size: taken as 1 mm, so that distances are in voxels. Give reader.name=folders "
            "reader.spacing=[SLICE,ROW,COLUMN]"
        )
    gaps = {"_".join(filter(None, (*row.home, row.name))): row.gaps for row in volumes if row.gaps}
    if gaps:
        shown = "; ".join(f"{name}: {text}" for name, text in list(gaps.items())[:_MOST_SHOWN])
        notes.append(
            f"numbers of slices have gaps in {len(gaps)} of {len(volumes)} volumes ({shown}): slices are taken as "
            "neighbours. Restore those that were lost"
        )
    alone = [scan for row in rows if not row.numbers for scan in row.scans]
    if alone:
        notes.append(f"pictures without a number are scans of one slice: {_names(alone)}")
    return notes


def slice_patients(scans: Sequence[PairedScan], root: Path) -> list[str | None]:
    """The patient of each scan that is a numbered slice of one; None for others.

    Args:
        scans: In their folders.
        root: Folder that their paths are relative to.
    """
    if any("" not in scan.images for scan in scans):
        return [None] * len(scans)
    names, places = _names_and_places(scans)
    return patients_of_slices(names, places, [root / scan.first.path for scan in scans])


def _names_and_places(scans: Sequence[PairedScan]) -> tuple[list[NumberedName | None], list[Place]]:
    names = [numbered_name(scan.name, scan.first.bare or scan.name) for scan in scans]
    return names, [(scan.first.part, scan.first.home) for scan in scans]


def _check_numbers(row: Row, root: Path, faults: list[Fault]) -> None:
    """Two pictures of one number."""
    for (first, scan), (second, other) in pairwise(zip(row.numbers, row.scans, strict=False)):
        if first == second:
            one, two = (root / each.first.path for each in (scan, other))
            faults.append(Fault(f"{one} and {two} are both slice {first}", remedy="Keep one of the two"))


def _names(scans: Sequence[PairedScan]) -> str:
    more = ", …" if len(scans) > _MOST_SHOWN else ""
    return ", ".join(scan.first.path.name for scan in scans[:_MOST_SHOWN]) + more


def is_picture(scan: PairedScan) -> bool:
    """Whether a scan is a picture of one file."""
    return "" in scan.images and scan.first.path.name.lower().endswith(_PICTURES)
