"""What readers of folders with a ``dataset.json`` share: its channels and labels, and a table of metadata beside it."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.catalog import Case, Catalog, Column, Value
from fewlabel.data.columns import infer_columns
from fewlabel.data.io.volume import is_scan, scan_stem
from fewlabel.data.subjects import guess_phases, guess_subjects
from fewlabel.readers.cells import cell, known_columns, part_of, read_text

DESCRIPTION = "dataset.json"
TABLE = "metadata.csv"
_OWN = ("case", "subject", "part")
#: Decathlon Task04: both hippocampi of a person, cropped out of one scan of the head, have numbers that follow.
_HIPPOCAMPUS = re.compile(r"hippocampus_(\d+)$")


def read_description(root: Path, faults: list[Fault]) -> dict[str, Any]:
    """The content of ``dataset.json``; empty if there is none. What is wrong with it goes to ``faults``."""
    path = root / DESCRIPTION
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        faults.append(Fault(f"{path} cannot be read as JSON ({reason(error)})", remedy="Correct it"))
        return {}
    return values if isinstance(values, dict) else {}


def listed_rows(described: Mapping[str, Any], key: str) -> list[tuple[str, str]]:
    """(image, label or empty) of each entry of a list of ``dataset.json``: a pair, or an image's name alone."""
    entries = described.get(key)
    rows = []
    for row in entries if isinstance(entries, list) else []:
        pair = row if isinstance(row, dict) else {"image": row}
        rows.append((str(pair.get("image") or ""), str(pair.get("label") or "")))
    return rows


def lists_files_as_they_are(root: Path) -> bool:
    """Whether the first image on the list ``training`` exists under that very name, which it does not in nnU-Net."""
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
    rule = "labels must map names to whole numbers, or numbers to names"
    given = described.get("labels") or {}
    if not isinstance(given, dict):
        remedy = 'Write them like {"0": "background", "1": "liver"}'
        faults.append(Fault(f"{rule}, not be {json.dumps(given, ensure_ascii=False)}", str(root / DESCRIPTION), remedy))
        return names
    for key, value in given.items():
        if isinstance(value, str) and str(key).lstrip("-").isdigit():
            names[int(key)] = value
        elif isinstance(value, int):
            names[value] = str(key)
        elif isinstance(value, list) and all(isinstance(item, int) for item in value):
            # A region is a union of labels: its members are learnt one by one, under their numbers.
            for item in value:
                names.setdefault(item, f"label {item}" if len(value) > 1 else str(key))
        else:
            pair = f'"{key}": {json.dumps(value, ensure_ascii=False)}'
            faults.append(Fault(f"{rule}, unlike {pair}", str(root / DESCRIPTION)))
    return names


def described_catalog(
    reader: str,
    root: Path,
    described: Mapping[str, Any],
    channels: tuple[str, ...],
    cases: list[Case],
    faults: list[Fault],
    *,
    guess: bool = True,
) -> Catalog:
    """The catalog of a folder, its cases completed by ``metadata.csv``.

    Args:
        reader: Id of the reader.
        root: The folder.
        described: Content of its ``dataset.json``.
        channels: Names of the channels.
        cases: As the reader found them.
        faults: What is wrong with them.
        guess: As for :func:`with_metadata`.

    Raises:
        DataError: With these faults and those of ``metadata.csv`` and of the label names.
    """
    columns, cases, notes = with_metadata(root, cases, faults, guess=guess)
    label_names = label_names_of(described, root, faults)
    if faults:
        raise DataError(f"The folder cannot be read (reader {reader}):", faults)
    return Catalog(
        name=str(described.get("name") or root.name),
        root=root,
        reader=reader,
        cases=tuple(sorted(cases, key=lambda case: case.id)),
        columns=columns,
        label_names=label_names,
        channels=channels,
        notes=notes,
    )


def with_metadata(
    root: Path, cases: list[Case], faults: list[Fault], *, guess: bool = True
) -> tuple[tuple[Column, ...], list[Case], tuple[str, ...]]:
    """Metadata columns, the cases completed by ``metadata.csv``, and notes on what was assumed.

    Both hippocampi of a person in Decathlon Task04, cases 2k-1 and 2k, are one subject whatever ``guess`` says.

    Args:
        root: The folder.
        cases: As found.
        faults: Takes what is wrong with the table.
        guess: Whether subjects and phases are guessed from names where the table does not give them.
    """
    names = [case.id for case in cases]
    persons = _persons(names)
    subjects = {**(guess_subjects(names) if guess else {name: name for name in names}), **persons}
    lines, rows = _read_table(root / TABLE, set(names), faults)
    fields = dict.fromkeys(key for row in rows.values() for key in row if key not in _OWN)
    columns, typed = infer_columns({key: [rows.get(n, {}).get(key) for n in names] for key in fields}, TABLE)
    phases = guess_phases(names)
    if guess and "phase" not in typed and any(phases.values()):
        columns = (*columns, Column("phase", "categorical", "last part of the case name"))
        typed["phase"] = tuple(phases[name] for name in names)
    completed = []
    for index, case in enumerate(cases):
        row = rows.get(case.id, {})
        metadata: dict[str, Value] = {key: values[index] for key, values in typed.items()}
        where = f"{root / TABLE}, line {lines.get(case.id)}"
        completed.append(
            Case(
                id=case.id,
                subject=cell(row.get("subject")) or subjects[case.id],
                images=case.images,
                label=case.label,
                metadata=metadata,
                part=part_of(row["part"], where, faults) if cell(row.get("part")) else case.part,
            )
        )
    return columns, completed, _notes(completed, persons)


def _persons(names: list[str]) -> dict[str, str]:
    """Case → person, of the cases named as in Decathlon Task04."""
    matches = {name: _HIPPOCAMPUS.match(name) for name in names}
    return {name: f"person_{(int(match[1]) + 1) // 2:03d}" for name, match in matches.items() if match}


def _notes(cases: list[Case], persons: Mapping[str, str]) -> tuple[str, ...]:
    paired = [case for case in cases if persons.get(case.id) == case.subject]
    if not paired:
        return ()
    return (
        "scans are named as in Decathlon Task04, which holds both hippocampi of a person as hippocampus_(2k-1) and "
        f"hippocampus_(2k): {len(paired)} scans of {len({case.subject for case in paired})} subjects. If "
        "that is wrong, name the subjects in metadata.csv",
    )


def _read_table(path: Path, names: set[str], faults: list[Fault]) -> tuple[dict[str, int], dict[str, dict[str, str]]]:
    """Case → its line, and case → its row; columns that mean something to us are in lower case."""
    text = read_text(path, faults) if path.is_file() else ""
    if not text:
        return {}, {}
    try:
        rows = list(csv.DictReader(io.StringIO(text, newline="")))
    except csv.Error as error:
        faults.append(Fault(f"{path} is not a readable table ({error})"))
        return {}, {}
    named = known_columns((key for key in (rows[0] if rows else ()) if key), _OWN.__contains__, str(path), faults)
    if "case" not in named.values():
        present = ", ".join(named) if rows else "no rows"
        faults.append(Fault(f"must have a column case, but has {present}", str(path)))
        return {}, {}
    lines: dict[str, int] = {}
    by_case: dict[str, dict[str, str]] = {}
    for number, row in enumerate(rows, start=2):
        values = {named[key]: value or "" for key, value in row.items() if key in named}
        case = scan_stem(Path(values["case"].strip()))
        if not any(value.strip() for value in values.values()):
            continue
        if case in by_case:
            problem = f"{case} has a row already, in line {lines[case]}"
            faults.append(Fault(problem, f"{path}, line {number}", "Keep one of the two"))
        by_case[case], lines[case] = values, number
    _check_cases(lines, names, path, faults)
    return lines, by_case


def _check_cases(lines: Mapping[str, int], names: set[str], path: Path, faults: list[Fault]) -> None:
    unknown = [case for case in lines if case not in names]
    if unknown and len(unknown) == len(lines):
        example = min(names, default="")
        faults.append(Fault(f"must name cases of this folder, such as {example}, not {unknown[0]}", str(path)))
        return
    for case in unknown[:5]:
        remedy = did_you_mean(case, sorted(names), otherwise="Correct the name or take the row out")
        problem = f"{case or 'an empty name'} is no case of this folder"
        faults.append(Fault(problem, f"{path}, line {lines[case]}", remedy))
    if len(unknown) > 5:
        faults.append(Fault(f"{len(unknown) - 5} more rows name no case of this folder", str(path)))
