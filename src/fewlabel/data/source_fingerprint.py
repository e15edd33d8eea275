"""What a prepared store was made from: a key over the content of every file and over the settings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.catalog import Catalog
from fewlabel.data.io.catalog_paths import files_behind

SOURCES = "sources.json"
#: Raised when the same input would be prepared into other numbers or other files.
PREPARE_FORMAT = 1


def source_files(catalog: Catalog, folder: Path | None = None) -> dict[str, list[Any]]:
    """Size, modification time and content hash of every image and label, by absolute path.

    Args:
        catalog: The data set.
        folder: A store made before: where size and time are as it recorded them, its hash is taken over, so that
            nothing is read.

    Raises:
        DataError: Naming every file that is not there.
    """
    known: Mapping[str, Any] = read_sources(folder).get("files", {}) if folder is not None else {}
    files: dict[str, list[Any]] = {}
    faults = []
    for case in catalog.cases:
        paths = (*case.images, *([] if case.label is None else [case.label]))
        for path in (file for address in paths for file in files_behind(address)):
            if str(path) in files:
                continue
            try:
                state = path.stat()
                facts = [state.st_size, state.st_mtime_ns]
                before = known.get(str(path))
                same = before is not None and list(before[:2]) == facts
                files[str(path)] = [*facts, before[2] if before is not None and same else _digest(path)]
            except OSError as error:
                faults.append(Fault(f"cannot be read ({reason(error)})", f"case {case.id}, {path}"))
    if faults:
        raise DataError("Files of the data set cannot be read:", faults)
    return files


def source_key(catalog: Catalog, files: Mapping[str, list[Any]], settings: Mapping[str, Any]) -> str:
    """One hash of what the store depends on: file contents, catalog, settings and the format of this version."""
    cases = [
        [
            case.id,
            case.subject,
            case.part,
            {name: case.metadata[name] for name in sorted(case.metadata)},
            [[str(path), _content(path, files)] for path in case.images],
            [str(case.label), _content(case.label, files)] if case.label is not None else None,
        ]
        for case in catalog.cases
    ]
    described = {
        "format": PREPARE_FORMAT,
        "root": str(catalog.root.absolute()),
        "reader": catalog.reader,
        "name": catalog.name,
        "cases": cases,
        "columns": [[column.name, column.kind] for column in catalog.columns],
        "labels": {str(value): name for value, name in sorted(catalog.label_names.items())},
        "channels": list(catalog.channels),
        "settings": dict(settings),
    }
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _content(path: Path, files: Mapping[str, list[Any]]) -> Any:
    """Hash of the file, or those of all files behind an address."""
    hashes = [files[str(file)][2] for file in files_behind(path)]
    return hashes[0] if len(hashes) == 1 else hashes


def read_sources(folder: Path) -> dict[str, Any]:
    """The recorded key and files of a store; empty where there is none or it cannot be read."""
    try:
        values = json.loads((folder / SOURCES).read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
