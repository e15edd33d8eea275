"""The manifest of an artifact: its fields, and how it is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fewlabel.core.artifact.files import ANEW, MANIFEST, read_json
from fewlabel.core.artifact.sealed import SEAL, is_sealed
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.output_paths import leads_out

SCHEMA_VERSION = 1


class Parent(BaseModel):
    """An artifact this one was made from; ``path`` is relative to the artifact's own folder."""

    model_config = ConfigDict(extra="ignore")
    kind: str
    path: str
    content_hash: str


class Manifest(BaseModel):
    """What an artifact folder is.

    ``files`` maps each file to its SHA-256; ``content_hash`` sums them up. ``precision`` is what networks computed in,
    ``32`` or ``bf16-mixed``, and empty where none did; ``compiled`` is whether training steps were. ``machine`` says
    among other things how many threads there were.
    """

    model_config = ConfigDict(extra="ignore")
    kind: str
    schema_version: int
    content_hash: str
    files: dict[str, str]
    parents: list[Parent] = []
    created: str = ""
    seed: int | None = None
    device: str = ""
    precision: str = ""
    compiled: bool = False
    wall_seconds: float = 0.0
    settings: dict[str, Any] = {}
    versions: dict[str, str] = {}
    git_revision: str = ""
    machine: dict[str, Any] = {}


def content_hash_of(kind: str, files: Mapping[str, str]) -> str:
    """What sums up the content of an artifact.

    Args:
        kind: Of the artifact.
        files: Name → SHA-256.
    """
    return hashlib.sha256(json.dumps([kind, dict(files)], sort_keys=True).encode()).hexdigest()


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        ArtifactError: If it is no manifest, not as it was written, of a newer schema, or names files elsewhere.
    """
    # Before it is read: what is written in between is taken for new.
    stamp = _stamp(path) if path.is_file() else ()
    values = read_json(path)
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        problem = f"{path.parent} has schema {version}, but this version reads schemas up to {SCHEMA_VERSION}"
        raise ArtifactError("An artifact cannot be used:", [Fault(problem, remedy="Upgrade fewlabel")])
    if isinstance(values, dict) and SEAL in values and not is_sealed(values):
        fault = Fault(f"{path} is not as it was written", remedy=f"Put the old file back, or {ANEW.lower()}")
        raise ArtifactError("An artifact cannot be used:", [fault])
    try:
        manifest = Manifest.model_validate(values)
    except ValidationError as error:
        fault = Fault(f"{path} is not a valid manifest ({wrong_fields(error)})", remedy=ANEW)
        raise ArtifactError("An artifact cannot be used:", [fault]) from error
    if outside := [name for name in manifest.files if leads_out(name)]:
        fault = Fault(f"{path} names {outside[0]}, which is no file of its folder", remedy=ANEW)
        raise ArtifactError("An artifact cannot be used:", [fault])
    _known[Path(os.path.realpath(path))] = stamp, manifest.content_hash
    return manifest


def wrong_fields(error: ValidationError) -> str:
    """What is wrong with the fields of a manifest or another record, on one line."""
    wrong = []
    for problem in error.errors(include_url=False):
        field = ".".join(map(str, problem["loc"]))
        given = f"{problem['input']!r}"
        shown = given if len(given) <= 40 else f"{given[:40]}…"
        missing = problem["type"] == "missing"
        wrong.append(f"no {field}" if missing else f"{field} {shown}".strip())
    return ", ".join(wrong)


#: Manifest → what the file system would say otherwise had it been written anew, and the content hash in it.
_known: dict[Path, tuple[tuple[int, ...], str]] = {}


def _stamp(path: Path) -> tuple[int, ...]:
    state = path.stat()
    return state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def content_hash_at(folder: Path) -> str:
    """The content hash of what lies in a folder now, empty if nothing does; a manifest that stays is read once."""
    path = Path(os.path.realpath(folder / MANIFEST))
    if not path.is_file():
        return ""
    stamp = _stamp(path)
    if path not in _known or _known[path][0] != stamp:
        # Of any schema.
        values = read_json(path)
        _known[path] = stamp, str(values.get("content_hash", "")) if isinstance(values, dict) else ""
    return _known[path][1]
