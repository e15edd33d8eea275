"""Volumes of DICOM series: how they are found among the files of a folder, laid out and read.

:func:`open_series` opens a folder that holds one scan::

    series = open_series(Path("ct"))
    volume = series.read()        # a fewlabel.data.io.geometry.Volume
    series.files                  # its files, in the order of its slices
    series.header(0)              # the header of the first slice, as pydicom has it
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.io.dicom.file_search import Tree, read_tree
from fewlabel.data.io.dicom.headers import Header, Plane
from fewlabel.data.io.dicom.layout import Layout, lay_out
from fewlabel.data.io.dicom.pixels import read_planes
from fewlabel.data.io.dicom.splitting import Part, offsets_of, split_planes
from fewlabel.data.io.dicom.tags import read_dataset
from fewlabel.data.io.geometry import Geometry, Volume
from fewlabel.data.io.shear import straighten

#: Modalities whose images are projections, which lie nowhere.
_PROJECTIONS = frozenset({"CR", "DX", "MG", "RG", "IO", "PX", "XA", "RF", "US", "ES", "OP", "SC", "OT", "XC"})
_LOCALIZER = re.compile(r"(?<![a-z])(localis|localiz|scout|survey|surview|topogram)", re.IGNORECASE)
_LEAVE = "Leave it out, or convert it to NIfTI with dcm2niix"
_MOST = 5


@dataclass(frozen=True)
class Series:
    """One volume of a DICOM series; a series may hold several.

    Attributes:
        head: What the file of its first slice says of itself.
        part: Its slices.
        number: Of the volume among those of its series, from 1.
        count: Volumes of its series.
        where: What messages call it.
        notes: What is unusual about it and does no harm.
    """

    head: Header
    part: Part
    number: int = 1
    count: int = 1
    where: str = "a DICOM series"
    notes: tuple[str, ...] = field(default=())

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Its slices, along the cross product of the directions of their rows and columns."""
        return self.part.planes

    @property
    def files(self) -> tuple[Path, ...]:
        """Its files in the order of the slices, each once."""
        return tuple(dict.fromkeys(plane.file for plane in self.planes))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        rows, columns = self.planes[0].shape
        return (len(self.planes), rows, columns)

    @property
    def faults(self) -> tuple[Fault, ...]:
        """Everything that keeps it from being laid out."""
        return self._layout.faults

    @property
    def geometry(self) -> Geometry:
        """Where its voxels lie: x runs along the rows, y along the columns, z from slice to slice.

        Raises:
            DataError: With all that is wrong with how its slices lie.
        """
        if self._layout.geometry is None:
            raise DataError("A DICOM series cannot be used:", self.faults)
        return self._layout.geometry

    def header(self, slice_index: int) -> Any:
        """The header of the file of a slice, without its pixels, as a ``pydicom.Dataset``.

        Args:
            slice_index: Along z, from 0.

        Raises:
            DataError: If it cannot be read.
        """
        try:
            return read_dataset(self.planes[slice_index].file)
        except (OSError, ValueError) as error:
            problem = f"slice {slice_index + 1} cannot be read ({reason(error)})"
            raise DataError("A DICOM series cannot be used:", [Fault(problem, self.where)]) from error

    def read(self) -> Volume:
        """Its values, with slope and intercept of each slice applied, and where they lie.

        Of slices at an angle, as with a tilted gantry, the voxels are those of the nearest grid at right angles.

        Raises:
            DataError: If it cannot be laid out, or a file cannot be read or unpacked.
        """
        geometry = self.geometry
        array = straighten(read_planes(self.planes, self.where)[None], geometry, mask=False)
        return Volume(array, geometry, self.files)

    @cached_property
    def _layout(self) -> Layout:
        if problem := _problem(self.head, self.planes):
            return Layout(None, (Fault(problem, self.where, _LEAVE),))
        return lay_out(self.part, self.where, self.notes)


def open_series(folder: Path) -> Series:
    """The one scan in a folder of DICOM files and the folders below it.

    Segmentations, structure sets, reports and localizers beside it do not count.

    Args:
        folder: Where its files are; their names do not matter.

    Raises:
        DataError: If pydicom is not installed, or the folder holds no series of images, or several volumes; or with all
            that is wrong with its files and with how its slices lie.
    """
    tree = read_tree(folder)
    every = volumes_of(tree.headers)
    scans = [series for series in every if not is_localizer(series.head)] or every
    if len(scans) == 1:
        series = replace(scans[0], where=str(folder))
        if faults := [*tree_faults(tree), *series.faults]:
            raise DataError("A DICOM series cannot be used:", faults)
        return series
    if not scans:
        why = tree_faults(tree) or [Fault("holds no DICOM series of images", str(folder), "Check the path")]
        raise DataError("There is no scan:", why)
    listed = [described(series) for series in scans[:_MOST]]
    more = f" and {len(scans) - _MOST} more" if len(scans) > _MOST else ""
    problem = f"holds {len(scans)} scans: {'; '.join(listed)}{more}"
    remedy = "Give a folder with the files of one of them"
    raise DataError("A folder of DICOM is no single scan:", [Fault(problem, str(folder), remedy)])


def volumes_of(headers: Iterable[Header]) -> list[Series]:
    """The volumes that files make, by study, number of the series and what sets the volumes of a series apart.

    Files that are copies of one object count once.
    """
    groups: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        if header.planes:
            groups[header.series].append(header)
    volumes: list[Series] = []
    for group in groups.values():
        own, copies = _without_copies(group)
        notes = (f"files left out as copies of others: {copies}",) if copies else ()
        if own[0].inverted:
            notes = (*notes, "its high values are dark (MONOCHROME1); they are left as they are stored")
        owner = {plane.file: header for header in own for plane in header.planes}
        planes = [plane for header in own for plane in header.planes]
        parts = [_distinct(part) for part in split_planes(planes, pictures=own[0].modality in _PROJECTIONS)]
        volumes.extend(
            Series(_head(part, owner), part, number, len(parts), notes=(*notes, *said))
            for number, (part, said) in enumerate(parts, start=1)
        )
    return sorted(
        volumes, key=lambda each: (each.head.study, each.head.series_number or 0, each.head.series, each.number)
    )


def _head(part: Part, owner: Mapping[Path, Header]) -> Header:
    """The header of the first slice, which is cut if any is."""
    return replace(owner[part.planes[0].file], cut=any(owner[plane.file].cut for plane in part.planes))


def described(series: Series) -> str:
    """What a person tells a volume by: its number, description, size and what sets it apart."""
    head, (depth, rows, columns) = series.head, series.shape
    number = "" if head.series_number is None else f" {head.series_number}"
    named = f' "{head.description}"' if head.description else ""
    apart = ", ".join(f"{name} {_shown(value)}" for name, value in series.part.marks.items())
    slices = "1 slice" if depth == 1 else f"{depth} slices"
    return f"series{number}{named}, {head.modality}, {slices} of {rows}x{columns}{f', {apart}' if apart else ''}"


def is_localizer(head: Header) -> bool:
    """Whether a series shows where to scan, not what was scanned: its images or its description say so."""
    return bool({"LOCALIZER", "SCOUT"} & set(head.kind)) or _LOCALIZER.search(head.description) is not None


def tree_faults(tree: Tree) -> list[Fault]:
    """What is wrong with files and folders that cannot be read at all."""
    return [Fault(problem, str(path), "Copy it again, or take it out") for path, problem in tree.unreadable]


def _shown(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _problem(head: Header, planes: Sequence[Plane]) -> str:
    """Why slices are no volume of single values, or an empty text."""
    if "MOSAIC" in head.kind:
        return "is a Siemens mosaic: each file shows all slices of a volume side by side, and does not say how they lie"
    if head.samples > 1:
        return f"has {head.samples} values per pixel, as pictures in colour and screenshots have"
    if head.cut:
        return "has a file that is cut off: it is smaller than its pixels"
    if any(plane.position is None or plane.orientation is None for plane in planes):
        if planes[0].frames > 1:
            return f"is one file of {planes[0].frames} frames that does not say where each of them lies"
        if head.modality not in _PROJECTIONS:
            return "does not say where its slices lie (ImagePositionPatient, ImageOrientationPatient)"
    return ""


def _without_copies(headers: Sequence[Header]) -> tuple[list[Header], int]:
    """Each object once, and how many files are copies of another; an object without UID is none."""
    own: dict[object, Header] = {}
    for header in sorted(headers, key=lambda header: str(header.file)):
        own.setdefault((header.instance, header.size) if header.instance else header.file, header)
    return list(own.values()), len(headers) - len(own)


def _distinct(part: Part) -> tuple[Part, tuple[str, ...]]:
    """A part without slices that repeat another at their place, value for value."""
    if not part.doubled:
        return part, ()
    kept: list[Plane] = []
    at = 0.0
    for plane, offset in zip(part.planes, offsets_of(part.planes).tolist(), strict=True):
        if kept and abs(offset - at) <= 0.02 * (plane.thickness or 1.0) and _equal(kept[-1], plane):
            continue
        at = offset
        kept.append(plane)
    parts = split_planes(kept)
    if len(parts) > 1 or parts[0].doubled:
        return part, ()
    count = len(part.planes) - len(kept)
    said = f"slices that are there twice, value for value, and count once: {count}"
    return replace(parts[0], marks=part.marks), (said,)


def _equal(one: Plane, other: Plane) -> bool:
    try:
        values = read_planes((one, other), "")
    except DataError:
        return False
    return bool(np.array_equal(values[0], values[1]))
