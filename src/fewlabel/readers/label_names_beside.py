"""The names of a ``labels.json`` beside scans, put into the catalog that a reader of any layout has made.

The file itself is read by :mod:`fewlabel.readers.labels_json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Catalog
from fewlabel.data.colours_and_segments import of_pictures, with_colours
from fewlabel.data.io.composite_paths import Structures, parse_composite
from fewlabel.readers.labels_json import LABELS, LabelNames, read_label_names
from fewlabel.readers.listing import files_below

#: Readers whose names of labels are those of a file of the data set, which another file cannot contradict.
_DECLARED = frozenset({"nnunet", "msd", "monai", "bids"})
_MOST_SHOWN = 3


def with_label_names(catalog: Catalog, place: Path, *, below: bool = True) -> Catalog:
    """The catalog with the names and colours of ``labels.json``, if there is one in its folder or below.

    Names of structures that have a mask file each give them their values. A file that contradicts the data set's own
    (``dataset.json``, ``dseg.tsv``), or another of its kind, is a fault.

    Args:
        catalog: As a reader made it.
        place: Folder or file that was given.
        below: Whether folders in it are looked into, too.
    """
    faults: list[Fault] = []
    labels, path = _read(place if place.is_dir() else place.parent, faults, below=below)
    if path is None or not (labels.names or faults):
        return catalog
    catalog = replace(catalog, faults=(*catalog.faults, *faults))
    if faults:
        return catalog
    if labels.colours:
        if not any(case.label is not None and of_pictures(case.label) for case in catalog.cases):
            fault = Fault("names colours, but no mask is a picture in colours", str(path), "Name the values of masks")
            return replace(catalog, faults=(*catalog.faults, fault))
        catalog = replace(catalog, cases=with_colours(catalog.cases, labels.colours))
    elif _has_structures(catalog):
        return _with_values(catalog, labels.names, path)
    wrong = _contradictions(catalog, labels.names, path) if catalog.reader in _DECLARED else []
    if wrong:
        return replace(catalog, faults=(*catalog.faults, *wrong))
    named = {**catalog.label_names, **labels.names}
    return replace(catalog, label_names=named, notes=(*catalog.notes, _note(path, catalog)))


def _read(folder: Path, faults: list[Fault], *, below: bool) -> tuple[LabelNames, Path | None]:
    """The names, and the file they are in; that of the folder itself before those below, which must agree."""
    if (folder / LABELS).is_file():
        return read_label_names(folder / LABELS, faults), folder / LABELS
    deeper = [folder / path for path in files_below(folder) if path.name == LABELS] if below else []
    files = [(read_label_names(path, faults), path) for path in deeper]
    for labels, path in files[1:]:
        if labels != files[0][0]:
            faults.append(Fault(f"{files[0][1]} and {path} name labels differently", remedy="Keep one of them"))
            break
    return files[0] if files else (LabelNames(), None)


def _contradictions(catalog: Catalog, names: Mapping[int, str], path: Path) -> list[Fault]:
    own = catalog.label_names
    return [
        Fault(f"calls label {value} {name}, but the data set calls it {own[value]}", str(path), "Correct one of them")
        for value, name in names.items()
        if value in own and own[value].casefold() != name.casefold()
    ]


def _has_structures(catalog: Catalog) -> bool:
    return any(case.label is not None and isinstance(parse_composite(case.label), Structures) for case in catalog.cases)


def _with_values(catalog: Catalog, names: Mapping[int, str], path: Path) -> Catalog:
    """Masks of one structure each, with the values that names have."""
    own = {name.casefold(): value for value, name in catalog.label_names.items() if value != 0}
    wanted = {name.casefold(): value for value, name in names.items() if value != 0}
    if wanted and not set(wanted) & set(own):
        shown = ", ".join(list(catalog.label_names.values())[1 : 1 + _MOST_SHOWN])
        problem = f"names {', '.join(list(names.values())[:_MOST_SHOWN])}, but the masks are of {shown}"
        return replace(catalog, faults=(*catalog.faults, Fault(problem, str(path), "Name them as their files are")))
    free = max((0, *wanted.values()))
    moved = {}
    for name, value in own.items():
        if name not in wanted:
            free += 1
        moved[value] = wanted.get(name, free)
    cases = []
    for case in catalog.cases:
        structures = None if case.label is None else parse_composite(case.label)
        if isinstance(structures, Structures):
            parts = sorted((moved[value], file) for value, file in structures.parts)
            case = replace(case, label=Structures(tuple(parts)).path)  # noqa: PLW2901  # as it is to be kept
        cases.append(case)
    kept = {moved.get(value, value): name for value, name in catalog.label_names.items()}
    return replace(
        catalog,
        cases=tuple(cases),
        label_names={**kept, **names},
        notes=(*catalog.notes, _note(path, catalog)),
    )


def _note(path: Path, catalog: Catalog) -> str:
    where = path.relative_to(catalog.root) if path.is_relative_to(catalog.root) else path
    return f"classes are named by {where}"
