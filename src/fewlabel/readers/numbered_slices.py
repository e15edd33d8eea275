"""Numbered pictures as slices of volumes, for readers."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from fewlabel.core.errors import Fault
from fewlabel.data.io.axis_count import plane_size
from fewlabel.data.io.composite_paths import Stack
from fewlabel.readers.pairing import PairedScan

Stacking = Literal["auto", "always", "never"]
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_NUMBERED = re.compile(r"(?P<before>.*?)[ _\-.]*(?P<number>\d+)$")
#: Fewer slices than this are no volume, unless a folder holds them.
_FEWEST = 3


@dataclass(frozen=True)
class Row:
    """Pictures of one volume.

    Attributes:
        home: Folders of the volume.
        name: What the names of its pictures begin with.
        scans: By number.
        numbers: Of the pictures.
    """

    home: tuple[str, ...]
    name: str
    scans: tuple[PairedScan, ...]
    numbers: tuple[int, ...]

    @property
    def gaps(self) -> str:
        """Where numbers do not follow each other at the usual step; empty where they do."""
        steps = [high - low for low, high in pairwise(self.numbers)]
        usual = min(steps, default=1)
        wide = [(low, high) for low, high in pairwise(self.numbers) if high - low != usual]
        return ", ".join(f"{low} then {high}" for low, high in wide[:3])


def rows_of_slices(scans: Sequence[PairedScan], root: Path, stacking: Stacking) -> tuple[Row, ...]:
    """The volumes that numbered pictures make up; none where they are pictures of their own.

    ``auto``: where every picture is numbered, there are several rows, all pictures of a row are of one size, and a row
    either has a folder of its own or is three or more pictures, numbered from 0 or 1 without gaps, whose names begin
    alike.

    Args:
        scans: Pictures with their masks, one file each.
        root: Folder that their paths are relative to.
        stacking: ``always`` asks for numbers only.
    """
    if stacking == "never" or not scans or not all(is_picture(scan) for scan in scans):
        return ()
    found: dict[tuple[str, tuple[str, ...], str], dict[int, PairedScan]] = defaultdict(dict)
    for scan in scans:
        match = _NUMBERED.match(scan.first.bare or scan.name)
        if match is None:
            return ()
        row = found[(scan.first.part, scan.first.home, match["before"])]
        if int(match["number"]) in row:
            return ()
        row[int(match["number"])] = scan
    rows = [
        Row(home, before, tuple(row[number] for number in sorted(row)), tuple(sorted(row)))
        for (_, home, before), row in found.items()
    ]
    if stacking == "always":
        return tuple(rows)
    return tuple(rows) if len(rows) > 1 and _are_volumes(rows, root) else ()


def stacked(
    row: Row, root: Path, spacing: tuple[float, float, float] | None, faults: list[Fault]
) -> tuple[Path, Path | None]:
    """Image and label of a volume; no label where some slices lack a mask, which is a fault unless all do."""
    image = Stack(tuple(root / scan.first.path for scan in row.scans), spacing).path
    without = [scan for scan in row.scans if not scan.masks]
    if without:
        if len(without) < len(row.scans):
            names = ", ".join(scan.first.path.name for scan in without[:3]) + (", …" if len(without) > 3 else "")
            problem = f"{len(without)} of {len(row.scans)} slices have no mask: {names}"
            remedy = "Add their masks, empty ones where nothing is to be seen"
            faults.append(Fault(problem, str(root / row.scans[0].first.path.parent), remedy))
        return image, None
    return image, Stack(tuple(root / scan.masks[0].path for scan in row.scans), spacing).path


def slice_notes(rows: Iterable[Row], spacing: object) -> list[str]:
    """What was assumed of volumes made of pictures."""
    rows = tuple(rows)
    if not rows:
        return []
    count = sum(len(row.scans) for row in rows)
    notes = [
        f"{count} numbered pictures are slices of {len(rows)} volumes, in the order of their numbers. If each is a "
        "scan of its own, give reader.name=folders reader.stack=never"
    ]
    if spacing is None:
        notes.append(
            "pictures hold no voxel size: taken as 1 mm, so that distances are in voxels. Give reader.name=folders "
            "reader.spacing=[SLICE,ROW,COLUMN]"
        )
    gaps = {"_".join(row.home) or row.name: row.gaps for row in rows if row.gaps}
    if gaps:
        shown = "; ".join(f"{name}: {text}" for name, text in list(gaps.items())[:3])
        notes.append(f"numbers of slices have gaps in {len(gaps)} volumes ({shown}): slices are taken as neighbours")
    return notes


def is_picture(scan: PairedScan) -> bool:
    """Whether a scan is a picture of one file."""
    return "" in scan.images and scan.first.path.name.lower().endswith(_PICTURES)


def _are_volumes(rows: Sequence[Row], root: Path) -> bool:
    homes: Counter[Hashable] = Counter((row.scans[0].first.part, row.home) for row in rows)
    together = max(homes.values()) > 1
    for row in rows:
        alone = bool(row.home) and homes[(row.scans[0].first.part, row.home)] == 1
        whole = (
            len(row.numbers) >= _FEWEST and row.numbers[0] in {0, 1} and not row.gaps and bool(row.name) and together
        )
        if not (alone and len(row.numbers) > 1) and not whole:
            return False
    return all(len({plane_size(root / scan.first.path) for scan in row.scans}) == 1 for row in rows)
