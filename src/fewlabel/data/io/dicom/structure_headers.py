"""Segmentations and structure sets: which structures they hold, and which volume they are of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fewlabel.data.io.dicom.headers import Header
from fewlabel.data.io.dicom.private_text import naming_words
from fewlabel.data.io.dicom.quiet_pydicom import quiet
from fewlabel.data.io.dicom.series import Series, is_localizer
from fewlabel.data.io.dicom.tags import elements_of, read_dataset, text_of, whole_of

_KINDS = {"SEG": "segmentation", "RTSTRUCT": "structure set"}
#: Who made them, as ``predict`` writes it into its own.
MAKER = "fewlabel"
_CONTOURS = "ROIContourSequence"


@dataclass(frozen=True)
class Structure:
    """One structure of an object: its name, and its number in the file."""

    name: str
    number: int


@dataclass(frozen=True)
class StructureObject:
    """A segmentation or a structure set.

    Attributes:
        file: The file.
        kind: ``segmentation`` or ``structure set``.
        structures: In the order of the file.
        description: Of its series, its label and its own.
        study: UID of its study.
        instances: UIDs of the images that it is drawn on.
        series: UIDs of their series.
        frames_of_reference: UIDs of the systems of coordinates of what it holds.
        moment: When it was made, for comparisons alone.
        predicted: Whether ``predict`` wrote it.
        words: That name a person or a place, see :func:`fewlabel.data.io.dicom.private_text.naming_words`.
    """

    file: Path
    kind: str
    structures: tuple[Structure, ...]
    description: str
    study: str
    instances: frozenset[str]
    series: frozenset[str]
    frames_of_reference: frozenset[str]
    moment: str
    predicted: bool
    words: frozenset[str]

    def nameless(self, clean: Callable[[str, frozenset[str]], str]) -> StructureObject:
        """The object with texts that name nobody, and structures of which no two are called alike.

        A structure of whose name nothing is left is called by its number.

        Args:
            clean: Takes a text and the words that name whom it is on, and gives what may be kept of it.
        """
        names = [clean(each.name, self.words) or f"structure {each.number}" for each in self.structures]
        repeated = {name for name, count in Counter(map(str.casefold, names)).items() if count > 1}
        structures = tuple(
            Structure(f"{name} {each.number}" if name.casefold() in repeated else name, each.number)
            for name, each in zip(names, self.structures, strict=True)
        )
        return replace(self, structures=structures, description=clean(self.description, self.words))


@quiet()
def read_structures(header: Header) -> StructureObject:
    """The structures of a file, called as it calls them, and what it refers to.

    Raises:
        ValueError: If the file is damaged.
        OSError: If it cannot be read.
    """
    dataset = read_dataset(header.file)
    listed = _segments(dataset) if header.modality == "SEG" else _regions(dataset)
    said = (text_of(dataset, name) for name in ("SeriesDescription", "ContentLabel", "StructureSetLabel"))
    references: dict[str, set[str]] = {"ReferencedSOPInstanceUID": set(), "SeriesInstanceUID": set()}
    frames = {header.frame_of_reference}
    for item in _items(dataset, without=_CONTOURS):
        for name, values in references.items():
            values.update(filter(None, [text_of(item, name)]))
        frames.update(text_of(item, name) for name in ("FrameOfReferenceUID", "ReferencedFrameOfReferenceUID"))
    if not references["ReferencedSOPInstanceUID"]:
        # Of contours there are many, and they mostly refer to what is listed elsewhere.
        inner = (text_of(item, "ReferencedSOPInstanceUID") for item in _items(dataset))
        references["ReferencedSOPInstanceUID"].update(filter(None, inner))
    dates = ("ContentDate", "ContentTime"), ("StructureSetDate", "StructureSetTime"), ("SeriesDate", "SeriesTime")
    moments = ("".join(text_of(dataset, name) for name in pair) for pair in dates)
    return StructureObject(
        file=header.file,
        kind=_KINDS[header.modality],
        structures=tuple(Structure(name, number) for name, number in listed),
        description=" ".join(dict.fromkeys(filter(None, said))),
        study=header.study,
        instances=frozenset(references["ReferencedSOPInstanceUID"]),
        series=frozenset(references["SeriesInstanceUID"]),
        frames_of_reference=frozenset(filter(None, frames)),
        moment=next(filter(None, moments), ""),
        predicted={text_of(dataset, name) for name in ("Manufacturer", "ManufacturerModelName")} == {MAKER},
        words=naming_words(dataset),
    )


def owner_of(one: StructureObject, scans: Mapping[str, Series]) -> tuple[str, str]:
    """The volume that an object is of, by its pseudonym; or why it is of none.

    It is the volume that has most of the images it refers to; else one of a series that it refers to; else the only one
    of its study in its system of coordinates.

    Args:
        one: The object.
        scans: Pseudonym of each volume → the volume.
    """
    shared = {scan: _shared(one, series) for scan, series in scans.items()}
    if most := max(shared.values(), default=0):
        # The first of equal ones: volumes of a series share no image.
        return next(scan for scan, count in shared.items() if count == most), ""
    named = [scan for scan, series in scans.items() if series.head.series in one.series]
    beside = [
        scan
        for scan, series in scans.items()
        if series.head.frame_of_reference in one.frames_of_reference and not is_localizer(series.head)
    ]
    for fitting in (named, beside):
        if len(fitting) == 1:
            return fitting[0], ""
        if fitting:
            return "", f"refers to no image, and {len(fitting)} volumes fit it alike"
    return "", "is of no series that is there"


def _shared(one: StructureObject, series: Series) -> int:
    return len(one.instances & {plane.instance for plane in series.planes})


def _segments(dataset: Any) -> Iterator[tuple[str, int]]:
    for item in dataset.get("SegmentSequence") or ():
        kind = item.get("SegmentedPropertyTypeCodeSequence")
        name = text_of(item, "SegmentLabel") or (text_of(kind[0], "CodeMeaning") if kind else "")
        yield name, whole_of(item, "SegmentNumber") or 0


def _regions(dataset: Any) -> Iterator[tuple[str, int]]:
    for item in dataset.get("StructureSetROISequence") or ():
        yield text_of(item, "ROIName"), whole_of(item, "ROINumber") or 0


def _items(dataset: Any, without: str = "") -> Iterator[Any]:
    """All items of all sequences but one, at any depth."""
    for element in elements_of(dataset):
        if element.VR == "SQ" and element.keyword != without:
            for item in element.value or ():
                yield item
                yield from _items(item)
