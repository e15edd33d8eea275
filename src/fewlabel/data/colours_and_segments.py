"""What the files of a data set say that its reader does not ask: colours of pictures, names of segments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.io.catalog_paths import is_file_path
from fewlabel.data.io.composite_paths import Colour, Coloured, Segments, Stack, parse_composite
from fewlabel.data.io.file_names import is_picture, is_segmentation
from fewlabel.data.io.itk_image import colours_of
from fewlabel.data.io.mask_colours import parse_colours
from fewlabel.data.io.slicer_segmentation import segment_names

RGB = ("red", "green", "blue")
#: Scans whose colours are looked at.
_SAMPLE = 20
_NUMBERS_COUNT = (
    "segmentations number their segments differently, and their names are not those of the data set: the numbers count"
)


def with_file_facts(catalog: Catalog, colours: Mapping[str, int]) -> Catalog:
    """A catalog with what its files say: three channels of pictures in colour, classes of segments and of colours.

    Args:
        catalog: As a reader has it.
        colours: ``rrggbb`` → class value, for mask pictures; empty where they hold class indices.

    Raises:
        SettingsError: If a colour is none.
    """
    classes = parse_colours(colours)
    catalog = _with_channels(catalog)
    catalog = _with_segments(catalog)
    if not classes:
        return catalog
    return replace(catalog, cases=with_colours(catalog.cases, classes))


def with_colours(cases: Sequence[Case], classes: Sequence[tuple[Colour, int]]) -> tuple[Case, ...]:
    """Cases whose masks are pictures, or stacks of them, with colours as classes; others as they are.

    Args:
        cases: Of a catalog.
        classes: Colour → class value.
    """
    return tuple(
        replace(case, label=Coloured(case.label, tuple(classes)).path)
        if case.label is not None and of_pictures(case.label)
        else case
        for case in cases
    )


def of_pictures(label: Path) -> bool:
    """Whether a mask is a picture, or a stack of them, whose colours nobody has named yet."""
    composite = parse_composite(label)
    files = composite.files if isinstance(composite, Stack) else (label,) if is_file_path(label) else ()
    return bool(files) and all(map(is_picture, files))


def _with_channels(catalog: Catalog) -> Catalog:
    """Red, green and blue as channels, where the reader knows of one image and most pictures are in colour."""
    if len(catalog.channels) != 1 or not catalog.cases or any(len(case.images) != 1 for case in catalog.cases):
        return catalog
    step = max(1, len(catalog.cases) // _SAMPLE)
    counts = [_colours(case) for case in catalog.cases[::step]]
    if 2 * sum(count == len(RGB) for count in counts) <= len(counts):
        return catalog
    note = "the images are in colour: their channels are red, green and blue"
    return replace(catalog, channels=RGB, notes=(*catalog.notes, note))


def _colours(case: Case) -> int:
    path = case.images[0]
    composite = parse_composite(path)
    if isinstance(composite, Stack):
        path = composite.files[0]
    elif not is_file_path(path):
        return 1
    return colours_of(path)


def _with_segments(catalog: Catalog) -> Catalog:
    """Names of classes from segmentations by 3D Slicer; where files number them differently, the name counts."""
    names = {case.label: _names(case.label) for case in catalog.cases if case.label and is_segmentation(case.label)}
    named_files = [segments for segments in names.values() if segments]
    if not named_files:
        return catalog
    declared = {name.casefold(): value for value, name in catalog.label_names.items()}
    if declared:
        if not all(name.casefold() in declared for segments in named_files for name in segments.values()):
            return catalog if _agree(named_files) else replace(catalog, notes=(*catalog.notes, _NUMBERS_COUNT))
        values = declared
    else:
        values = _numbered(named_files)
    wanted = {name.casefold(): value for name, value in values.items()}
    moved = {
        path: Segments(path, tuple((name, wanted[name.casefold()]) for name in segments.values())).path
        for path, segments in names.items()
        if any(wanted[name.casefold()] != value for value, name in segments.items())
    }
    cases = tuple(replace(case, label=moved[case.label]) if case.label in moved else case for case in catalog.cases)
    named = catalog.label_names or {0: "background", **{value: name for name, value in values.items()}}
    which = "1 segmentation numbers its" if len(moved) == 1 else f"{len(moved)} segmentations number their"
    note = f"{which} segments differently from the others: segments are matched by name"
    return replace(catalog, cases=cases, label_names=named, notes=(*catalog.notes, note) if moved else catalog.notes)


def _numbered(named_files: Sequence[Mapping[int, str]]) -> dict[str, int]:
    """Name of each segment → value: that of the files where they agree, else by first appearance."""
    pairs = {(name.casefold(), value) for segments in named_files for value, name in segments.items()}
    spelled: dict[str, str] = {}
    for segments in named_files:
        for name in segments.values():
            spelled.setdefault(name.casefold(), name)
    if _agree(named_files):
        return {spelled[name]: value for name, value in sorted(pairs, key=lambda pair: pair[1])}
    return {name: number for number, name in enumerate(spelled.values(), start=1)}


def _agree(named_files: Sequence[Mapping[int, str]]) -> bool:
    """Whether no two files give one name two values, or one value two names."""
    pairs = {(name.casefold(), value) for segments in named_files for value, name in segments.items()}
    return len({name for name, _ in pairs}) == len({value for _, value in pairs}) == len(pairs)


def _names(path: Path) -> dict[int, str]:
    try:
        return segment_names(path)
    except DataError:
        # Said where the mask is read.
        return {}
