"""nnU-Net raw folders and the Medical Segmentation Decathlon: imagesTr, labelsTr, imagesTs, dataset.json."""

from __future__ import annotations

import csv
import json
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.catalog import Case, Catalog, Column, Value
from fewlabel.data.columns import infer_columns
from fewlabel.data.subjects import guess_phases, guess_subjects
from fewlabel.data.volume import is_scan, scan_stem
from fewlabel.readers.base import Match, Reader

_CHANNEL = re.compile(r"(?P<case>.+)_(?P<channel>\d{4})$")
_PARTS = (("imagesTr", "labelsTr", ""), ("imagesTs", "labelsTs", "test"))
_TABLE = "metadata.csv"
_OWN = ("case", "subject", "part")


class NnunetReader(Reader):
    """nnU-Net raw data (Isensee et al., Nature Methods 2021), versions 1 and 2, and MSD (Antonelli et al., 2022).

    ``imagesTr/CASE_0000.nii.gz`` with one file per channel, or ``imagesTr/CASE.nii.gz``; the label is
    ``labelsTr/CASE.nii.gz``, and a case without one is unlabelled. ``imagesTs`` is the data set's own test part,
    labelled where ``labelsTs`` holds the case. Channels and label names come from ``dataset.json`` (``channel_names``
    or ``modality``; ``labels`` either way round). A label named ``ignore`` is left out of training and scoring.

    An optional ``metadata.csv`` beside it has a column ``case``, and any others: ``subject``, ``part`` and free
    metadata. Without a ``subject`` the rule of :func:`fewlabel.data.subjects.guess_subjects` tells siblings.
    """

    class Config(Reader.Config):
        """No settings."""

        name: str = "nnunet"

    summary: ClassVar[str] = "nnU-Net or MSD folders: imagesTr, labelsTr, imagesTs, dataset.json, metadata.csv"

    @classmethod
    def match(cls, root: Path) -> Match:
        """By the names ``imagesTr`` and ``dataset.json``."""
        if not root.is_dir():
            return Match(0.0, ("not a folder",))
        images = sum(is_scan(path) for path in (root / "imagesTr").glob("*"))
        described = (root / "dataset.json").is_file()
        reasons = [f"{images} images in imagesTr" if images else "no images in imagesTr"]
        reasons.append("dataset.json" if described else "no dataset.json")
        inside = [
            folder.name
            for folder in sorted(root.iterdir())
            if not folder.name.startswith(".") and (folder / "imagesTr").is_dir()
        ]
        if inside and not images:
            reasons.append(f"imagesTr lies one folder deeper: give {root / inside[0]}")
        return Match(
            (0.7 if images else 0.1) + (0.3 if described else 0.0) if images or described else 0.0, (*reasons,)
        )

    def read(self, root: Path) -> Catalog:
        """One case per case name; subject by table or by name."""
        faults: list[Fault] = []
        described = _read_json(root / "dataset.json", faults)
        channels = _channels(described)
        cases: list[Case] = []
        for images, labels, part in _PARTS:
            cases.extend(_read_part(root / images, root / labels, part, channels, faults))
        _check_listed(root, described, cases, faults)
        if not cases:
            faults.append(Fault("imagesTr holds the images", "none", str(root)))
        if channels is None:
            channels = tuple(f"channel {i}" for i in range(max((len(case.images) for case in cases), default=1)))
            channels = ("image",) if len(channels) == 1 else channels
        columns, cases = _with_metadata(root, cases, faults)
        label_names = _label_names(described, root, faults)
        if faults:
            raise DataError("The nnU-Net folder cannot be read:", faults)
        return Catalog(
            name=str(described.get("name") or root.name),
            root=root,
            reader="nnunet",
            cases=tuple(sorted(cases, key=lambda case: case.id)),
            columns=columns,
            label_names=label_names,
            channels=channels,
        )


def _read_json(path: Path, faults: list[Fault]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        faults.append(Fault("dataset.json must be JSON", str(error), str(path), "correct it"))
        return {}
    return values if isinstance(values, dict) else {}


def _channels(described: Mapping[str, Any]) -> tuple[str, ...] | None:
    names = described.get("channel_names", described.get("modality"))
    if isinstance(names, dict) and names:
        return tuple(str(names[key]) for key in sorted(names, key=lambda key: int(key) if str(key).isdigit() else 0))
    return None


def _label_names(described: Mapping[str, Any], root: Path, faults: list[Fault]) -> dict[int, str]:
    names: dict[int, str] = {}
    for key, value in dict(described.get("labels") or {}).items():
        if isinstance(value, str) and str(key).lstrip("-").isdigit():
            names[int(key)] = value
        elif isinstance(value, int):
            names[value] = str(key)
        elif isinstance(value, list) and all(isinstance(item, int) for item in value):
            # A region is a union of labels: its members are learnt one by one, under their numbers.
            for item in value:
                names.setdefault(item, f"label {item}" if len(value) > 1 else str(key))
        else:
            rule = "labels in dataset.json map names to whole numbers, or numbers to names"
            faults.append(Fault(rule, f"{key!r}: {value!r}", str(root / "dataset.json")))
    return names


def _read_part(
    images: Path, labels: Path, part: str, channels: tuple[str, ...] | None, faults: list[Fault]
) -> list[Case]:
    files = sorted(path for path in images.glob("*") if is_scan(path))
    truths: dict[str, Path] = {}
    for path in sorted(path for path in labels.glob("*") if is_scan(path)):
        truths[scan_stem(path)] = path
    stems = [scan_stem(path) for path in files]
    grouped: dict[str, dict[int, Path]] = defaultdict(dict)
    suffixed = _has_channel_suffix(stems, truths, channels)
    for path, stem in zip(files, stems, strict=True):
        found = _CHANNEL.match(stem) if suffixed else None
        case, channel = (found["case"], int(found["channel"])) if found else (stem, 0)
        if channel in grouped[case]:
            where = f"{grouped[case][channel]} and {path}"
            faults.append(Fault("a case has one file per channel", "two", where, "remove one"))
        grouped[case][channel] = path
    cases = []
    expected = len(channels) if channels and suffixed else 1 + max((max(row) for row in grouped.values()), default=0)
    for case, row in grouped.items():
        missing = [f"{channel:04d}" for channel in range(expected) if channel not in row]
        if missing:
            faults.append(
                Fault("a case needs a file for every channel", f"no {', '.join(missing)}", str(images / case))
            )
        paths = tuple(row[channel] for channel in sorted(row))
        cases.append(Case(id=case, subject=case, images=paths, label=truths.pop(case, None), part=part))
    faults.extend(
        Fault("a label needs its image", f"none named {case} in {images}", str(path)) for case, path in truths.items()
    )
    return cases


def _has_channel_suffix(stems: list[str], truths: Mapping[str, Path], channels: tuple[str, ...] | None) -> bool:
    """Whether ``_0000`` at the end of the names counts channels, or is part of the case name."""
    found = [_CHANNEL.match(stem) for stem in stems]
    stripped = sum(match is not None and match["case"] in truths for match in found)
    whole = sum(stem in truths for stem in stems)
    if stripped != whole:
        return stripped > whole
    limit = len(channels) if channels else 1
    return bool(found) and all(match is not None and int(match["channel"]) < limit for match in found)


def _check_listed(root: Path, described: Mapping[str, Any], cases: list[Case], faults: list[Fault]) -> None:
    known = {case.id for case in cases}
    listed = described.get("training")
    for row in listed if isinstance(listed, list) else []:
        image = str(row.get("image", "")) if isinstance(row, dict) else str(row)
        name = scan_stem(Path(image))
        if name and name not in known:
            rule = "an image that dataset.json lists must be there"
            faults.append(Fault(rule, f"no {name}", str(root / image), "restore it or take it off the list"))


def _with_metadata(root: Path, cases: list[Case], faults: list[Fault]) -> tuple[tuple[Column, ...], list[Case]]:
    names = [case.id for case in cases]
    subjects = guess_subjects(names)
    rows = _read_table(root / _TABLE, set(names), faults)
    fields = dict.fromkeys(key for row in rows.values() for key in row if key not in _OWN)
    columns, typed = infer_columns({key: [rows.get(n, {}).get(key) for n in names] for key in fields}, _TABLE)
    phases = guess_phases(names)
    if "phase" not in typed and any(phases.values()):
        columns = (*columns, Column("phase", "categorical", "last part of the case name"))
        typed["phase"] = tuple(phases[name] for name in names)
    told = []
    for index, case in enumerate(cases):
        row = rows.get(case.id, {})
        metadata: dict[str, Value] = {key: values[index] for key, values in typed.items()}
        part = (row.get("part") or case.part).strip().lower()
        told.append(
            Case(
                id=case.id,
                subject=(row.get("subject") or "").strip() or subjects[case.id],
                images=case.images,
                label=case.label,
                metadata=metadata,
                part="test" if part == "test" else "",
            )
        )
    return columns, told


def _read_table(path: Path, names: set[str], faults: list[Fault]) -> dict[str, dict[str, str]]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8-sig") as stream:
        rows = list(csv.DictReader(stream))
    if not rows or "case" not in rows[0]:
        found = ", ".join(rows[0]) if rows else "no rows"
        faults.append(Fault("metadata.csv needs a column case", found, str(path)))
        return {}
    by_case: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        case = scan_stem(Path((row["case"] or "").strip()))
        if case in by_case:
            faults.append(Fault("a case has one row in metadata.csv", f"another for {case}", f"{path}, line {number}"))
        by_case[case] = {key: value or "" for key, value in row.items() if isinstance(key, str)}
    if not names & set(by_case):
        found = f"{next(iter(by_case))}, while images are called {min(names, default='')}"
        faults.append(Fault("metadata.csv must name cases of this folder", found, str(path)))
    return by_case
