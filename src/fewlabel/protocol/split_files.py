"""A split that the user wrote as a JSON file: read, and every fault of its shape and its subjects found at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.catalog import Catalog

PARTS = ("pretrain", "train", "validation", "test")
_SHAPE = 'a split file holds {"parts": {"train": [...], "validation": [...], "test": [...]}}'
_DRAW = 'a draw is {"labelled": [...], "validation": [...]}, the latter if it is not the whole validation part'


def read_split_file(catalog: Catalog, path: Path) -> dict[str, Any]:
    """``name``, ``parts`` as far as the file has them, and ``draws`` whose rows say whom they validate on.

    Args:
        catalog: The data set that the subjects must be in.
        path: The file.

    Raises:
        DataError: If it cannot be read, has another shape, or names subjects that its parts cannot have.
    """
    content = _content(path)
    faults: list[Fault] = []
    parts: dict[str, list[str]] = {}
    for part, given in content["parts"].items():
        names = _names(given)
        if part not in PARTS:
            faults.append(Fault.of("unknown part", repr(part), str(path), f"known: {', '.join(PARTS)}"))
        elif names is None:
            faults.append(Fault.of(f"part {part} is a list of subjects", repr(given), str(path), "write [...]"))
        else:
            parts[part] = list(dict.fromkeys(names))
            faults.extend(_subject_faults(part, names, catalog, path))
    wrong = [part for part in content["parts"] if part in PARTS and part not in parts]
    draws = _draws(content.get("draws", {}), parts, wrong, path, faults)
    if faults:
        raise DataError("The split is not valid:", faults)
    return {"name": str(content.get("name", path.stem)), "parts": parts, "draws": draws}


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError("The split cannot be read:", [Fault.of(_SHAPE, f"{error!r}", str(path))]) from error
    if not isinstance(content, dict) or not isinstance(content.get("parts"), dict):
        raise DataError("The split cannot be read:", [Fault.of(_SHAPE, _short(content), str(path))])
    return content


def _names(given: Any) -> list[str] | None:
    """Subjects as text; None if this is no list of names or numbers."""
    if not isinstance(given, list) or any(isinstance(name, bool) or not isinstance(name, str | int) for name in given):
        return None
    return [str(name) for name in given]


def _subject_faults(part: str, names: Sequence[str], catalog: Catalog, path: Path) -> list[Fault]:
    faults = []
    known, labelled = set(catalog.subjects), set(catalog.labelled_subjects)
    for subject in names:
        if subject not in known:
            near = difflib.get_close_matches(subject, catalog.subjects, n=1)
            remedy = f"did you mean {near[0]}?" if near else "see the subjects that check lists"
            faults.append(Fault.of(f"a subject of part {part} must be in the data set", subject, str(path), remedy))
        elif subject not in labelled and part != "pretrain":
            faults.append(Fault.of(f"a subject of part {part} must have a label", subject, str(path)))
    return faults


def _draws(
    given: Any, parts: Mapping[str, Sequence[str]], wrong: Sequence[str], path: Path, faults: list[Fault]
) -> dict[str, list[dict[str, list[str]]]]:
    """The draws; subjects are held against the parts, but for those that are ``wrong`` themselves."""
    if not isinstance(given, dict):
        rule = "draws map how many are labelled to a list of draws"
        faults.append(Fault.of(rule, _short(given), str(path), 'e.g. {"1": [{"labelled": ["p01"]}]}'))
        return {}
    draws: dict[str, list[dict[str, list[str]]]] = {}
    for key, rows in given.items():
        if not key.isdecimal() or key != str(int(key)) or int(key) < 1:
            faults.append(Fault.of("draws are named by how many are labelled, from 1", repr(key), f"{path}, draws"))
        elif not isinstance(rows, list) or not rows:
            faults.append(Fault.of(f"draws of {key} are a list of one or more", _short(rows), f"{path}, draws"))
        else:
            found = [_draw(row, f"{path}, draw {at} of {key}", parts, faults) for at, row in enumerate(rows)]
            draws[key] = [row for row in found if row is not None]
            for row in draws[key]:
                faults.extend(_draw_faults(int(key), row, parts, wrong, path))
    return draws


def _draw(row: Any, where: str, parts: Mapping[str, Sequence[str]], faults: list[Fault]) -> dict[str, list[str]] | None:
    if isinstance(row, dict):
        labelled = _names(row.get("labelled"))
        validation = _names(row.get("validation", list(parts.get("validation", ()))))
        if labelled is not None and validation is not None:
            return {"labelled": labelled, "validation": validation}
    faults.append(Fault.of(_DRAW, _short(row), where))
    return None


def _draw_faults(
    count: int, row: Mapping[str, list[str]], parts: Mapping[str, Sequence[str]], wrong: Sequence[str], path: Path
) -> list[Fault]:
    faults = []
    labelled = row["labelled"]
    train = labelled if "train" in wrong else parts.get("train", ())
    if not len(labelled) == len(set(labelled)) == count or not set(labelled) <= set(train):
        rule = f"a draw of {count} names that many subjects of the train part"
        faults.append(Fault.of(rule, ", ".join(labelled) or "none", str(path)))
    strange = [subject for subject in row["validation"] if subject not in parts.get("validation", ())]
    if strange and "validation" not in wrong:
        faults.append(Fault.of("a draw validates on the validation part", ", ".join(strange), str(path)))
    return faults


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
