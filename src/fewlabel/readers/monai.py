"""MONAI datalists: a JSON file that lists images and labels."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.named_files import file_is_there
from fewlabel.core.settings.base import setting
from fewlabel.data.catalog import Case, Catalog
from fewlabel.data.column_types import infer_columns
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.dataset_json import DESCRIPTION, channels_of, label_names_of
from fewlabel.readers.default_channel_names import channel_names
from fewlabel.readers.scan_ids import Placed, case_ids, subjects_of
from fewlabel.readers.slice_number_detection import patients_by_case

_LISTS = {
    "training": "",
    "train": "",
    "validation": "validation",
    "val": "validation",
    "testing": "test",
    "test": "test",
}
_IMAGES, _LABELS = ("image", "img", "images"), ("label", "seg", "mask", "labels")
_OWN = {*_IMAGES, *_LABELS, "fold", "subject", "case"}
#: Larger files are no lists.
_LARGEST = 50_000_000


class MonaiReader(Reader):
    """A datalist as MONAI's Auto3DSeg, bundles and Project MONAI tutorials have it, or a folder with one.

    ``training``, ``validation`` and ``testing`` list entries with ``image`` (a path, or one for each channel) and
    ``label``; an entry that is a path alone is an image. Paths are relative to the list, or to ``base``. With ``fold``
    the entries of training whose ``fold`` is that number are kept for validation. ``subject`` of an entry is the
    subject, other values are metadata; ``labels`` and ``modality`` of the list name classes and channels as in the
    Decathlon.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "monai"
        base: str | None = setting(None, "folder that paths are relative to; null: that of the list")
        fold: int | None = setting(None, "entries of training of that fold validate; null: none by its fold", ge=0)

    config: Config
    summary: ClassVar[str] = (
        "a MONAI datalist: a JSON file with the lists training, validation, testing of image and label"
    )

    @classmethod
    def match(cls, root: Path) -> Match:
        """By a list ``training`` of entries with an ``image``."""
        places = _lists(root)
        if not places:
            return Match(0.0, ("no JSON file that lists training images",))
        if len(places) > 1:
            names = ", ".join(path.name for path, _ in places)
            return Match(0.4, (f"several lists: {names}; give one of them",))
        path, content = places[0]
        rows = _rows(content)
        there = rows and _image_there(path.parent, rows[0][2])
        reasons = (f"{path.name} lists {len(rows)} images", "the first is there" if there else "the first is not there")
        if path.name == DESCRIPTION and root.is_dir():
            # Of the Decathlon or of nnU-Net, which have readers of their own.
            return Match(0.55 if there else 0.2, reasons)
        return Match(0.95 if there or root.is_file() else 0.6, reasons)

    def collect(self, root: Path) -> Catalog:
        """One case per entry."""
        places = _lists(root)
        if len(places) != 1:
            names = ", ".join(str(path) for path, _ in places) or "none"
            problem = f"{root} must hold one JSON file that lists training images, but holds {names}"
            raise DataError("The list cannot be read:", [Fault(problem, remedy="Give the file itself")])
        path, content = places[0]
        faults: list[Fault] = []
        base = path.parent if self.config.base is None else Path(self.config.base)
        entries: list[tuple[tuple[Path, ...], Path | None, str, Mapping[str, Any]]] = []
        folds: set[int] = set()
        for where, listed, entry in _rows(content):
            images, label = _files(base, entry, f"{path}, {where}", faults)
            fold = entry.get("fold")
            if isinstance(fold, int) and not listed:
                folds.add(fold)
            validates = not listed and fold is not None and fold == self.config.fold
            if images:
                entries.append((images, label, "validation" if validates else listed, entry))
        if self.config.fold is not None and self.config.fold not in folds:
            present = ", ".join(map(str, sorted(folds))) or "none at all"
            faults.append(Fault(f"there is no fold {self.config.fold}: folds are {present}", "reader.fold"))
        cases, columns = _cases(base, entries)
        notes = []
        if folds and self.config.fold is None:
            shown = ", ".join(map(str, sorted(folds)))
            notes.append(f"folds {shown} are not used: give reader.name=monai reader.fold=0 to validate on one of them")
        return Catalog(
            name=str(content.get("name") or path.stem),
            root=path.parent,
            reader="monai",
            cases=tuple(sorted(cases, key=lambda case: case.id)),
            columns=columns,
            label_names=label_names_of(content, path.parent, faults) if isinstance(content.get("labels"), dict) else {},
            channels=channels_of(content) or channel_names(cases),
            notes=tuple(notes),
            faults=tuple(faults),
        )


def _lists(root: Path) -> list[tuple[Path, Mapping[str, Any]]]:
    """JSON files that list images, and their content."""
    files = [root] if root.is_file() else sorted(root.glob("*.json"))
    datalists: list[tuple[Path, Mapping[str, Any]]] = []
    for path in files:
        if path.suffix.lower() != ".json" or path.name.startswith(".") or not path.is_file():
            continue
        if path.stat().st_size > _LARGEST:
            continue
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict) and _rows(content):
            datalists.append((path, content))
    return datalists


def _rows(content: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Where an entry stands, its part, and the entry."""
    rows: list[tuple[str, str, Mapping[str, Any]]] = []
    for key, part in _LISTS.items():
        listed = content.get(key)
        for number, entry in enumerate(listed if isinstance(listed, list) else []):
            if isinstance(entry, str):
                rows.append((f"{key}[{number}]", part, {"image": entry}))
            elif isinstance(entry, dict) and any(name in entry for name in _IMAGES):
                rows.append((f"{key}[{number}]", part, entry))
    return rows


def _value(entry: Mapping[str, Any], names: tuple[str, ...]) -> list[str]:
    value = next((entry[name] for name in names if entry.get(name)), None)
    return [str(item) for item in value] if isinstance(value, list) else [] if value is None else [str(value)]


def _image_there(base: Path, entry: Mapping[str, Any]) -> bool:
    return all(file_is_there(base / name) for name in _value(entry, _IMAGES))


def _files(
    base: Path, entry: Mapping[str, Any], where: str, faults: list[Fault]
) -> tuple[tuple[Path, ...], Path | None]:
    images = [base / name for name in _value(entry, _IMAGES)]
    labels = [base / name for name in _value(entry, _LABELS)]
    if len(labels) > 1:
        faults.append(Fault(f"must have one label, not {len(labels)}", where, "Join them into one mask"))
    missing = [path for path in (*images, *labels) if not file_is_there(path)]
    faults.extend(Fault(f"{path} does not exist", where, "Restore it, or set reader.base") for path in missing)
    if not images:
        faults.append(Fault("names no image", where))
    usable = not any(path in missing for path in images)
    label = labels[0] if labels and file_is_there(labels[0]) and len(labels) == 1 else None
    return tuple(images) if usable else (), label


def _cases(
    base: Path, entries: list[tuple[tuple[Path, ...], Path | None, str, Mapping[str, Any]]]
) -> tuple[list[Case], Any]:
    placed = []
    for images, _, _, _ in entries:
        home = images[0].parent.relative_to(base).parts if images[0].is_relative_to(base) else images[0].parent.parts
        placed.append(Placed(home, scan_stem(images[0]), home))
    ids = case_ids(placed)
    slices = patients_by_case({name: images[0] for name, (images, *_) in zip(ids, entries, strict=True)})
    subjects = [slices.get(name, subject) for name, subject in zip(ids, subjects_of(placed, ids), strict=True)]
    names = dict.fromkeys(
        key
        for *_, entry in entries
        for key, value in entry.items()
        if key not in _OWN and isinstance(value, str | int | float)
    )
    columns, typed = infer_columns({name: [entry.get(name) for *_, entry in entries] for name in names}, "datalist")
    cases = [
        Case(
            id=str(entry.get("case") or ids[index]),
            subject=str(entry.get("subject") or subjects[index]),
            images=images,
            label=label,
            metadata={name: values[index] for name, values in typed.items()},
            part=part,
        )
        for index, (images, label, part, entry) in enumerate(entries)
    ]
    return cases, columns
