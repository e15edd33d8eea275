"""What in a run may say whose scans they are: ids, values of columns, and names of files, folders, user and machine."""

from __future__ import annotations

import getpass
import io
import re
import socket
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

import fewlabel
from fewlabel.data.relabel import RECORD as RELABELLED
from fewlabel.data.source_fingerprint import read_sources
from fewlabel.data.store import PreparedStore

#: Columns that are called so in every copy; those of other names get numbers.
USUAL_COLUMNS = frozenset(
    {
        *("patient", "position", "phase", "quarter", "frame", "view", "side", "sex", "age", "site", "scanner"),
        *("manufacturer", "sequence", "contrast", "modality", "field_strength", "group", "dataset"),
    }
)
#: Columns of ``catalog.parquet`` that are no metadata.
_OF_CATALOG = frozenset({"case", "subject", "part", "images", "label", "dataset"})
_SHORTEST = 4
#: With so many digits beside letters a word is a number of somebody.
_MANY_DIGITS = 3
_PARTS = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Names:
    """What is replaced by what.

    Attributes:
        cases: Id of a scan → its number, ``case-001``.
        subjects: Id of a subject → its number, ``subject-001``.
        columns: Name of a column of metadata → ``column-1``, or its usual name.
        datasets: Name of a data set → ``data-1``.
        words: Other words that tell whose scans they are; none of them may be in a copy.
    """

    cases: dict[str, str]
    subjects: dict[str, str]
    columns: dict[str, str]
    datasets: dict[str, str]
    words: frozenset[str]

    def key(self) -> pd.DataFrame:
        """The key: a row for each number, with what it stands for."""
        kinds = {"case": self.cases, "subject": self.subjects, "column": self.columns, "data set": self.datasets}
        rows = [(kind, number, name) for kind, names in kinds.items() for name, number in names.items()]
        return pd.DataFrame(rows, columns=["kind", "in the copy", "original"])


def names_of(run: Path, stores: Sequence[PreparedStore]) -> Names:
    """What must not be in a copy of a run.

    Numbers follow the sorted ids, so that whatever goes by their order, such as the patients that are left out in turn,
    is the same in a copy.

    Args:
        run: The run folder.
        stores: All prepared stores in it.
    """
    cases = sorted({case.id for store in stores for case in store.cases})
    subjects = sorted({case.subject for store in stores for case in store.cases})
    columns = sorted(
        {
            *(label for store in stores for label in store.meta_labels),
            *(str(column["name"]) for store in stores for column in store.plan.get("columns", ())),
        }
    )
    datasets = sorted({name for store in stores for name in _datasets(store)})
    unusual = [name for name in columns if name not in USUAL_COLUMNS]
    numbers = Names(
        _numbered("case", cases),
        _numbered("subject", subjects),
        {name: name for name in columns if name in USUAL_COLUMNS} | _numbered("column", unusual, 1),
        _numbered("data", datasets, 1),
        frozenset(),
    )
    found: set[str] = {*cases, *subjects, *unusual, *datasets, *_machine()}
    for store in stores:
        found |= _of_store(store)
    found |= _of_path(run.resolve())
    made = " ".join([*numbers.cases.values(), *numbers.subjects.values(), *numbers.columns.values(), "data-"])
    parts = {part for word in found for part in _PARTS.findall(word)}
    kept = _kept(stores)
    words = frozenset(word for word in {*found, *parts} if tells(word, kept) and word not in made)
    return Names(numbers.cases, numbers.subjects, numbers.columns, numbers.datasets, words)


def tells(word: str, kept: Set[str] = frozenset()) -> bool:
    """Whether a word can be looked for: long enough, and none that a copy holds anyhow.

    Args:
        word: The word.
        kept: What a copy holds beside the words that this package uses itself, in lower case.

    Example:
        >>> tells("scans"), tells("p1"), tells("Meierhuber"), tells("MRN4711"), tells("scan_0042")
        (False, False, True, True, True)
    """
    digits = sum(map(str.isdigit, word))
    if len(word) < _SHORTEST or (digits == len(word) and digits < 2 * _SHORTEST):
        return False
    if digits >= _MANY_DIGITS and any(map(str.isalpha, word)):
        return True
    parts = _PARTS.findall(word)
    own = _own_words()
    return word.isdigit() or any(
        not part.isdigit() and part.lower() not in own and part.lower() not in kept for part in parts
    )


def _kept(stores: Sequence[PreparedStore]) -> frozenset[str]:
    """Words of structures and channels, which a copy keeps."""
    names = [name for store in stores for name in (*store.label_names.values(), *store.plan["channels"])]
    return frozenset(part.lower() for name in names for part in _PARTS.findall(name))


@lru_cache(maxsize=1)
def _own_words() -> frozenset[str]:
    """The words of letters in the sources of this package, which its reports and records may hold at any time."""
    home = Path(fewlabel.__file__).parent
    files = [path for suffix in ("py", "html", "css", "yaml") for path in home.rglob(f"*.{suffix}")]
    words: set[str] = {"root", "user", "users", "home", "localhost", "admin", "vmware", "ubuntu"}
    for path in files:
        words.update(re.findall(r"[a-z]+", path.read_text(encoding="utf-8").lower()))
    return frozenset(words)


def _numbered(kind: str, names: Sequence[str], least: int = 3) -> dict[str, str]:
    width = max(least, len(str(len(names))))
    return {name: f"{kind}-{number:0{width}d}" for number, name in enumerate(names, start=1)}


def _datasets(store: PreparedStore) -> list[str]:
    return [name for name in (*str(store.plan.get("dataset", "")).split("+"), *store.plan.get("merged", {})) if name]


def _machine() -> set[str]:
    """Names of the machine and of its user."""
    names = {socket.gethostname(), socket.gethostname().split(".", maxsplit=1)[0], Path.home().name}
    try:
        names.add(getpass.getuser())
    except (OSError, KeyError):
        # Nobody by name, as in a container.
        return names
    return names


def _of_store(store: PreparedStore) -> set[str]:
    """Names of files and folders, and values of columns."""
    paths = [path for case in store.cases for path in (*case.images, case.label) if path]
    if RELABELLED in store.manifest.files:
        paths += [kept[key] for kept in store.artifact.json(RELABELLED).values() for key in ("file", "source")]
    paths += list(read_sources(store.folder).get("files", {}))
    found = {word for path in paths for word in _of_path(Path(path))}
    catalog = pd.read_parquet(io.BytesIO(store.artifact.content("catalog.parquet")))
    columns = [catalog[name] for name in catalog.columns if name not in _OF_CATALOG]
    return found | {value for column in columns for value in _texts(column)} | _planned(store.plan)


def _planned(plan: dict[str, Any]) -> set[str]:
    columns = plan.get("columns", ())
    return {str(value) for column in columns for value in (column.get("source", ""), *column.get("values", ()))}


def _texts(values: Iterable[Any]) -> set[str]:
    return {str(value) for value in values if isinstance(value, str) and value}


def _of_path(path: Path) -> set[str]:
    """The names in a path, of a file without its endings too."""
    return {word for part in path.parts for word in (part, part.split(".", maxsplit=1)[0], part.partition("#")[0])}
