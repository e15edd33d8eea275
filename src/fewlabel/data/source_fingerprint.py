"""What a prepared store was made from: a key over the content of every file and over the settings."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import ArtifactError, DataError, Fault, reason
from fewlabel.data.catalog import Catalog
from fewlabel.data.io.catalog_paths import files_behind
from fewlabel.data.io.dicom.address import parse_dicom
from fewlabel.data.scan_locations import below, located, read_data_folder

SOURCES = "sources.json"
#: Raised when the same input would be prepared into other numbers or other files.
PREPARE_FORMAT = 1


def source_files(catalog: Catalog, folder: Path | None = None, home: Path | None = None) -> dict[str, list[Any]]:
    """Size, modification time and content hash of every image and label, by absolute path.

    Those of a DICOM series are summed up under its path in the catalog: the names of its files may name a person.

    Args:
        catalog: The data set.
        folder: A store made before: where size and time are as it recorded them, its hash is taken over, so that
            nothing is read.
        home: Folder below which that store names files; None for absolute paths.

    Raises:
        DataError: Naming every file that is not there.
    """
    known: Mapping[str, Any] = read_sources(folder).get("files", {}) if folder is not None else {}
    files: dict[str, list[Any]] = {}
    faults = []
    for case in catalog.cases:
        paths = (*case.images, *([] if case.label is None else [case.label]))
        for name, parts in (source for path in paths for source in _sources(path)):
            if name in files:
                continue
            try:
                facts = _state(parts)
                # By its absolute path in stores of before.
                before = known.get(name) if home is None else known.get(below(name, home), known.get(name))
                same = before is not None and list(before[:2]) == facts
                files[name] = [*facts, before[2] if before is not None and same else _digest(parts)]
            except OSError as error:
                faults.append(Fault(f"cannot be read ({reason(error)})", f"case {case.id}, {name}"))
    if faults:
        raise DataError("Files of the data set cannot be read:", faults)
    return files


def source_key(
    catalog: Catalog, files: Mapping[str, list[Any]], settings: Mapping[str, Any], home: Path | None = None
) -> str:
    """One hash of what the store depends on: file contents, catalog, settings and the format of this version.

    Args:
        catalog: The data set.
        files: As :func:`source_files` gives them.
        settings: Those that change the store.
        home: Folder below which scans are named, so that the key is the same wherever it lies; None for absolute paths.
    """

    def named(path: Path) -> str:
        return str(path) if home is None else below(path, home)

    cases = [
        [
            case.id,
            case.subject,
            case.part,
            {name: case.metadata[name] for name in sorted(case.metadata)},
            [[named(path), _content(path, files)] for path in case.images],
            [named(case.label), _content(case.label, files)] if case.label is not None else None,
        ]
        for case in catalog.cases
    ]
    described = {
        "format": PREPARE_FORMAT,
        "root": str(catalog.root.absolute()) if home is None else below(catalog.root, home),
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
    hashes = [files[name][2] for name, _ in _sources(path)]
    return hashes[0] if len(hashes) == 1 else hashes


@dataclass(frozen=True)
class SourceChanges:
    """What has become of the files a store was made of.

    Attributes:
        same: How many are as they were.
        gone: How many are not where the store has them.
        changed: The others, by their paths in the store.
    """

    same: int
    gone: int
    changed: tuple[str, ...]


def changed_sources(folder: Path) -> SourceChanges | None:
    """Hold the files that a store was made of against their hashes; None where it does not know them."""
    recorded, home = read_sources(folder).get("files", {}), read_data_folder(folder)
    if not isinstance(recorded, dict) or not recorded:
        return None
    same, gone, changed = 0, 0, []
    for name, facts in recorded.items():
        try:
            parts = [part for _, parts in _sources(Path(located(name, folder, home))) for part in parts]
            now = _digest(parts) if parts else None
        except (OSError, DataError):
            now = None
        if now is None:
            gone += 1
        elif now == facts[2]:
            same += 1
        else:
            changed.append(name)
    return SourceChanges(same, gone, tuple(changed))


def read_sources(folder: Path) -> dict[str, Any]:
    """The recorded key and files of a store; empty where there is none or it cannot be read."""
    try:
        values = read_json(folder / SOURCES)
    except ArtifactError:
        return {}
    return values if isinstance(values, dict) else {}


def _sources(path: Path) -> list[tuple[str, tuple[Path, ...]]]:
    """What a path of a catalog is recorded as: each file by itself, or all those of DICOM as one."""
    files = files_behind(path)
    return [(str(path), files)] if parse_dicom(path) is not None else [(str(file), (file,)) for file in files]


def _state(files: Sequence[Path]) -> list[int]:
    """Size and time of a file; of several their sum, and a number that changes with each of them."""
    states = [file.stat() for file in files]
    if len(states) == 1:
        return [states[0].st_size, states[0].st_mtime_ns]
    each = repr([(state.st_size, state.st_mtime_ns) for state in states]).encode()
    return [sum(state.st_size for state in states), zlib.crc32(each)]


def _digest(files: Sequence[Path]) -> str:
    hashes = []
    for file in files:
        with file.open("rb") as stream:
            hashes.append(hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest())
    return hashes[0] if len(hashes) == 1 else hashlib.blake2b("".join(hashes).encode(), digest_size=16).hexdigest()
