"""A split that the user wrote as a JSON file: read, and every fault of its shape and its subjects found at once."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.catalog import Catalog

PARTS = ("pretrain", "train", "validation", "test")
_SHAPE = 'A split file holds {"parts": {"train": [...], "validation": [...], "test": [...]}}'
_DRAW = 'Write {"labelled": [...]}, and "validation": [...] if it is not the whole validation part'


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
            faults.append(Fault(f'unknown part "{part}"', str(path), did_you_mean(part, PARTS)))
        elif names is None:
            faults.append(
                Fault(f"part {part} must be a list of subjects, not {_short(given)}", str(path), "Write [...]")
            )
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
    except (OSError, ValueError, RecursionError) as error:
        fault = Fault(f"{path} is not a readable JSON file ({reason(error)})", remedy=_SHAPE)
        raise DataError("The split cannot be read:", [fault]) from error
    if not isinstance(content, dict) or not isinstance(content.get("parts"), dict):
        raise DataError("The split cannot be read:", [Fault(f"{path} holds {_short(content)}", remedy=_SHAPE)])
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
            remedy = did_you_mean(subject, catalog.subjects, otherwise="See the subjects that check lists")
            faults.append(Fault(f"{subject} of part {part} is not in the data set", str(path), remedy))
        elif subject not in labelled and part != "pretrain":
            faults.append(Fault(f"{subject} of part {part} has no label", str(path)))
    return faults


def _draws(
    given: Any, parts: Mapping[str, Sequence[str]], wrong: Sequence[str], path: Path, faults: list[Fault]
) -> dict[str, list[dict[str, list[str]]]]:
    """The draws; their subjects are checked against the parts, except those that are ``wrong`` themselves."""
    if not isinstance(given, dict):
        problem = f"draws must map how many are labelled to a list of draws, not be {_short(given)}"
        faults.append(Fault(problem, str(path), 'Write them like {"1": [{"labelled": ["p01"]}]}'))
        return {}
    draws: dict[str, list[dict[str, list[str]]]] = {}
    for key, rows in given.items():
        if not key.isdecimal() or key != str(int(key)) or int(key) < 1:
            problem = f'draws must be named by how many are labelled, from 1, not "{key}"'
            faults.append(Fault(problem, f"{path}, draws"))
        elif not isinstance(rows, list) or not rows:
            faults.append(Fault(f"draws of {key} must be a list of one or more, not {_short(rows)}", f"{path}, draws"))
        else:
            rows_read = [_draw(row, f"{path}, draw {at} of {key}", parts, faults) for at, row in enumerate(rows)]
            draws[key] = [row for row in rows_read if row is not None]
            for row in draws[key]:
                faults.extend(_draw_faults(int(key), row, parts, wrong, path))
    return draws


def _draw(row: Any, where: str, parts: Mapping[str, Sequence[str]], faults: list[Fault]) -> dict[str, list[str]] | None:
    if isinstance(row, dict):
        labelled = _names(row.get("labelled"))
        validation = _names(row.get("validation", list(parts.get("validation", ()))))
        if labelled is not None and validation is not None:
            return {"labelled": labelled, "validation": validation}
    faults.append(Fault(f"{_short(row)} is not a draw", where, _DRAW))
    return None


def _draw_faults(
    count: int, row: Mapping[str, list[str]], parts: Mapping[str, Sequence[str]], wrong: Sequence[str], path: Path
) -> list[Fault]:
    faults = []
    labelled = row["labelled"]
    train = labelled if "train" in wrong else parts.get("train", ())
    if not len(labelled) == len(set(labelled)) == count or not set(labelled) <= set(train):
        problem = (
            f"a draw of {count} must name that many subjects of the train part, not {', '.join(labelled) or 'none'}"
        )
        faults.append(Fault(problem, str(path)))
    outside = [subject for subject in row["validation"] if subject not in parts.get("validation", ())]
    if outside and "validation" not in wrong:
        faults.append(Fault(f"{', '.join(outside)} of a draw must be in the validation part", str(path)))
    return faults


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 120 else f"{text[:117]}..."
