"""What readers of folders with a ``dataset.json`` share: its channels and labels, and a table of metadata beside it."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Case, Column, Value
from fewlabel.data.columns import infer_columns
from fewlabel.data.subjects import guess_phases, guess_subjects
from fewlabel.data.volume import is_scan, scan_stem

DESCRIPTION = "dataset.json"
TABLE = "metadata.csv"
_OWN = ("case", "subject", "part")


def read_description(root: Path, faults: list[Fault]) -> dict[str, Any]:
    """The content of ``dataset.json``; empty if there is none. What is wrong with it goes to ``faults``."""
    path = root / DESCRIPTION
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        faults.append(Fault("dataset.json must be JSON", str(error), str(path), "correct it"))
        return {}
    return values if isinstance(values, dict) else {}


def listed_rows(described: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    """(image, label or empty) of each entry of a list of ``dataset.json``: a pair, or an image's name alone."""
    found = described.get(key)
    rows = []
    for row in found if isinstance(found, list) else []:
        pair = row if isinstance(row, dict) else {"image": row}
        rows.append((str(pair.get("image") or ""), str(pair.get("label") or "")))
    return rows


def lists_files_as_they_are(root: Path) -> bool:
    """Whether the first image on the list ``training`` lies there by that very name, which it does not in nnU-Net."""
    rows = listed_rows(read_description(root, []), "training")
    return bool(rows) and is_scan(root / rows[0][0]) and (root / rows[0][0]).is_file()


def channels_of(described: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the channels, in their order; None if ``dataset.json`` does not say."""
    names = described.get("channel_names", described.get("modality"))
    if isinstance(names, dict) and names:
        return tuple(str(names[key]) for key in sorted(names, key=lambda key: int(key) if str(key).isdigit() else 0))
    return None


def label_names_of(described: Mapping[str, Any], root: Path, faults: list[Fault]) -> dict[int, str]:
    """Label value → name, whichever way round ``labels`` has them."""
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


def with_metadata(
    root: Path, cases: list[Case], faults: list[Fault], *, guess: bool = True
) -> tuple[tuple[Column, ...], list[Case]]:
    """Metadata columns, and the cases with what ``metadata.csv`` says of them.

    Args:
        root: The folder.
        cases: As found.
        faults: Takes what is wrong with the table.
        guess: Whether subjects and phases are guessed from names where the table does not tell them.
    """
    names = [case.id for case in cases]
    subjects = guess_subjects(names) if guess else {name: name for name in names}
    rows = _read_table(root / TABLE, set(names), faults)
    fields = dict.fromkeys(key for row in rows.values() for key in row if key not in _OWN)
    columns, typed = infer_columns({key: [rows.get(n, {}).get(key) for n in names] for key in fields}, TABLE)
    phases = guess_phases(names)
    if guess and "phase" not in typed and any(phases.values()):
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
