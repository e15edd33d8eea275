"""What readers of folders with a ``dataset.json`` share: its channels and labels, and a table of metadata beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.errors import Fault, reason
from fewlabel.core.named_files import file_is_there
from fewlabel.core.suggestions import did_you_mean
from fewlabel.core.whole_numbers import is_whole_number
from fewlabel.data.catalog import Case, Column, Value
from fewlabel.data.column_types import infer_columns
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.itk_image import is_scan
from fewlabel.data.subjects_from_names import guess_phases, guess_subjects
from fewlabel.readers.column_names import meanings
from fewlabel.readers.slice_number_detection import patients_by_case
from fewlabel.readers.table_cells import cell, part_of
from fewlabel.readers.table_file import read_table
from fewlabel.readers.text_files import read_text

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
    known = len(faults)
    text = read_text(path, faults)
    if len(faults) > known:
        return {}
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
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
    return bool(rows) and is_scan(root / rows[0][0]) and file_is_there(root / rows[0][0])


def channels_of(described: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Names of the channels, in their order; None if ``dataset.json`` does not say."""
    names = described.get("channel_names", described.get("modality"))
    if isinstance(names, dict) and names:
        return tuple(str(names[key]) for key in sorted(names, key=lambda key: int(key) if is_whole_number(key) else 0))
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
        if isinstance(value, str) and is_whole_number(key):
            names[int(key)] = value
        elif isinstance(value, int):
            names[value] = str(key)
        elif not _is_region(value):
            pair = f'"{key}": {json.dumps(value, ensure_ascii=False)}'
            remedy = 'Write it like "liver": 1'
            faults.append(Fault(f"{rule}, unlike {pair}", str(root / DESCRIPTION), remedy))
    return {**_parts_of_regions(_regions(described)), **names}


def region_notes(described: Mapping[str, Any]) -> tuple[str, ...]:
    """What becomes of regions, unions of labels that nnU-Net learns as such; empty where there are none."""
    regions = {name: values for name, values in _regions(described).items() if len(values) > 1}
    if not regions:
        return ()
    shown = "; ".join(f"{name} = {' + '.join(map(str, values))}" for name, values in regions.items())
    names = _parts_of_regions(_regions(described))
    parts = ", ".join(f"{value} ({name})" for value, name in sorted(names.items()))
    return (f"{DESCRIPTION} has regions ({shown}): their labels are learnt one by one, {parts}, not their unions",)


def _regions(described: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name of each region → its labels."""
    given = described.get("labels")
    pairs = given.items() if isinstance(given, dict) else ()
    return {str(name): tuple(values) for name, values in pairs if _is_region(values)}


def _is_region(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is int for item in value)


def _parts_of_regions(regions: Mapping[str, tuple[int, ...]]) -> dict[int, str]:
    """Label → its name: the smallest region that has it, without the regions inside of that."""
    names: dict[int, str] = {}
    for value in sorted({value for values in regions.values() for value in values}):
        inner = min((name for name in regions if value in regions[name]), key=lambda name: len(set(regions[name])))
        own = set(regions[inner])
        inside = [name for name, values in regions.items() if set(values) < own]
        rest = own - {item for name in inside for item in regions[name]}
        without = f" without {' and '.join(_outermost(inside, regions))}" if inside else ""
        names[value] = f"{inner}{without}" if len(rest) == 1 else f"{inner}{without}, label {value}"
    return names


def _outermost(names: list[str], regions: Mapping[str, tuple[int, ...]]) -> list[str]:
    return [name for name in names if not any(set(regions[name]) < set(regions[other]) for other in names)]


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
    guessed = guess_subjects(names) if guess else {name: name for name in names}
    subjects = {**guessed, **patients_by_case({case.id: case.images[0] for case in cases}), **persons}
    notes: list[str] = []
    lines, rows = _read_table(root / TABLE, set(names), faults, notes)
    fields = dict.fromkeys(key for row in rows.values() for key in row if key not in _OWN)
    columns, typed = infer_columns({key: [rows.get(n, {}).get(key) for n in names] for key in fields}, TABLE, notes)
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
    return columns, completed, (*notes, *_notes(completed, persons))


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


def _read_table(
    path: Path, names: set[str], faults: list[Fault], notes: list[str]
) -> tuple[dict[str, int], dict[str, dict[str, str]]]:
    """Case → its line, and case → its row; columns that mean something to us are in lower case."""
    if not path.is_file():
        return {}, {}
    before = len(faults)
    table = read_table(path, faults, notes)
    cells = {column: [row[column] for _, row in table.rows] for column in table.columns}
    wanted = ("case", "subject", "part", "image")
    known = meanings(cells, str(path), faults, notes, lambda _: False, wanted).known
    # Here the person can have no name without the case.
    case_column = known.get("case") or known.get("image") or (known.pop("subject", "") if _by_case_id(known) else "")
    if not case_column:
        if len(faults) == before:
            present = ", ".join(table.columns) if table.rows else "no rows"
            faults.append(Fault(f"must have a column case, but has {present}", str(path)))
        return {}, {}
    named = {known[word]: word for word in ("subject", "part") if word in known} | {case_column: "case"}
    lines: dict[str, int] = {}
    by_case: dict[str, dict[str, str]] = {}
    for number, row in table.rows:
        values = {named.get(column, column): value for column, value in row.items()}
        case = scan_stem(Path(values["case"].strip()))
        if not any(values.values()):
            continue
        if case in by_case:
            problem = f"{case} has a row already, in line {lines[case]}"
            faults.append(Fault(problem, f"{path}, line {number}", "Keep one of the two"))
        by_case[case], lines[case] = values, number
    _check_cases(lines, names, path, faults)
    return lines, by_case


def _by_case_id(known: Mapping[str, str]) -> bool:
    """Whether a column ``case_id`` was taken for the person, for lack of another."""
    return "".join(filter(str.isalpha, known.get("subject", "").lower())) == "caseid"


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
