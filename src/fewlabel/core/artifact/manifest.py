"""Artifact folders: what a stage leaves, with a manifest that says what it is and what it came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from fewlabel.core.artifact.files import ANEW, MANIFEST, file_hash, read_json, write_text
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.provenance import git_revision, library_versions, machine_facts

SCHEMA_VERSION = 1
#: Tables and facts up to this size are held against their hashes whenever an artifact is opened.
CHECKED_BYTES = 16 * 2**20
_CHECKED = frozenset({".json", ".parquet"})


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


@dataclass(frozen=True)
class Origin:
    """An artifact as a stage opened it: what is made from it is a child of that content, even if it is replaced.

    Attributes:
        folder: Where it lay.
        kind: Its kind.
        content_hash: Of what was opened.
    """

    folder: Path
    kind: str
    content_hash: str

    @classmethod
    def of(cls, folder: Path, manifest: Manifest) -> Origin:
        """The origin that a folder with this manifest is."""
        return cls(Path(folder), manifest.kind, manifest.content_hash)


def finish_artifact(
    folder: Path,
    kind: str,
    files: Sequence[str],
    *,
    parents: Sequence[Path | Origin] = (),
    final_folder: Path | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: str = "cpu",
    precision: str = "",
    compiled: bool = False,
    threads: int | None = None,
    wall_seconds: float = 0.0,
) -> Manifest:
    """Write the manifest, the last file of an artifact: without it the folder counts as unfinished.

    Args:
        folder: Where the files lie now.
        kind: ``prepared``, ``encoder``, ``segmenter``, ``scores``, ``predictions`` or ``report``.
        files: Names of the files that make up the content, relative to ``folder``.
        parents: The artifacts this one was made from, as they were opened; of a bare folder, as it is now.
        final_folder: Where the folder will be renamed to, if elsewhere.
        settings: The settings as recorded.
        seed: Seed of the run.
        device: Device it ran on.
        precision: What networks computed in, as :func:`fewlabel.engine.runtime.resolved_precision` has it.
        compiled: Whether training steps were compiled.
        threads: How many it worked with; None for those of :func:`machine_facts`.
        wall_seconds: Time it took, in seconds.
    """
    home = (final_folder or folder).absolute()
    hashes = {name: file_hash(folder / name) for name in sorted(files)}
    summed = hashlib.sha256(json.dumps([kind, hashes], sort_keys=True).encode()).hexdigest()
    opened = (
        parent if isinstance(parent, Origin) else Origin.of(parent, open_artifact(parent, check_parents=False))
        for parent in parents
    )
    known = [
        Parent(
            kind=origin.kind,
            path=os.path.relpath(origin.folder.absolute(), home),
            content_hash=origin.content_hash,
        )
        for origin in opened
    ]
    manifest = Manifest(
        kind=kind,
        schema_version=SCHEMA_VERSION,
        content_hash=summed,
        files=hashes,
        parents=known,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        seed=seed,
        device=device,
        precision=precision,
        compiled=compiled,
        wall_seconds=round(wall_seconds, 3),
        settings=dict(settings or {}),
        versions=library_versions(),
        git_revision=git_revision(),
        machine=machine_facts() | ({} if threads is None else {"threads": threads}),
    )
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def is_artifact(folder: Path, kind: str) -> bool:
    """Whether the folder is a finished artifact of that kind."""
    try:
        return open_artifact(folder, kind, check_parents=False).kind == kind
    except ArtifactError:
        return False


def open_artifact(folder: Path, kind: str | None = None, *, check_parents: bool = True) -> Manifest:
    """Read and check the manifest of an artifact folder.

    Raises:
        ArtifactError: If the folder is unfinished, of another kind, of a newer schema, has lost a file, a JSON file or
            table in it was edited, or one of its parents still lies there but has changed since (both hashes are
            named).
    """
    folder = Path(folder)
    path = folder / MANIFEST
    if not path.is_file():
        wanted = f"a finished artifact of kind {kind}" if kind else "a finished artifact"
        problem = f"{folder} is not {wanted}: it has no {MANIFEST}"
        if not folder.exists():
            problem = f"{folder} does not exist, but should be {wanted}"
        fault = Fault(problem, remedy="Run its stage first")
        raise ArtifactError("An artifact cannot be used:", [fault])
    manifest = read_manifest(path)
    faults = []
    if kind is not None and manifest.kind != kind:
        faults.append(
            Fault(
                f"{folder} is an artifact of kind {manifest.kind}, not {kind}",
                remedy=f"Give a folder of kind {kind}",
            )
        )
    faults.extend(
        Fault(f"{folder / name} is missing", remedy=ANEW) for name in manifest.files if not (folder / name).is_file()
    )
    faults.extend(_edited(folder, manifest))
    if check_parents:
        faults.extend(_changed_parents(folder, manifest))
    if faults:
        raise ArtifactError("An artifact cannot be used:", faults)
    return manifest


def parent_folder(folder: Path, kind: str) -> Path | None:
    """The folder of this artifact's parent of a kind, if it is still there."""
    for parent in open_artifact(folder, check_parents=False).parents:
        candidate = Path(os.path.normpath(Path(folder).absolute() / parent.path))
        if parent.kind == kind and (candidate / MANIFEST).is_file():
            return candidate
    return None


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        ArtifactError: If it is no manifest, or of a newer schema.
    """
    values = read_json(path)
    version = values.get("schema_version") if isinstance(values, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        problem = f"{path.parent} has schema {version}, but this version reads schemas up to {SCHEMA_VERSION}"
        fault = Fault(problem, remedy="Upgrade fewlabel")
        raise ArtifactError("An artifact cannot be used:", [fault])
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        fault = Fault(f"{path} is not a valid manifest ({_wrong(error)})", remedy=ANEW)
        raise ArtifactError("An artifact cannot be used:", [fault]) from error


def _wrong(error: ValidationError) -> str:
    """What is wrong with a manifest, on one line."""
    wrong = []
    for problem in error.errors(include_url=False):
        field = ".".join(map(str, problem["loc"]))
        given = f"{problem['input']!r}"
        shown = given if len(given) <= 40 else f"{given[:40]}…"
        missing = problem["type"] == "missing"
        wrong.append(f"no {field}" if missing else f"{field} {shown}".strip())
    return ", ".join(wrong)


def manifest_fields(path: Path) -> dict[str, Any]:
    """The fields of a manifest that may be of any schema."""
    content = read_json(path)
    return content if isinstance(content, dict) else {}


def changed_fault(folder: Path, name: str) -> Fault:
    """The fault of a file that is not as it was made."""
    return Fault(
        f"{folder / name} has changed since it was made", remedy="Put the old file back, or make the artifact again"
    )


def _edited(folder: Path, manifest: Manifest) -> list[Fault]:
    """A fault per small file that has changed; images and weights would take long and are not read."""
    small = (name for name in manifest.files if Path(name).suffix in _CHECKED and (folder / name).is_file())
    return [
        changed_fault(folder, name)
        for name in small
        if (folder / name).stat().st_size <= CHECKED_BYTES and file_hash(folder / name) != manifest.files[name]
    ]


def _changed_parents(folder: Path, manifest: Manifest) -> list[Fault]:
    faults = []
    for parent in manifest.parents:
        path = Path(os.path.normpath(folder.absolute() / parent.path)) / MANIFEST
        if not path.is_file():
            continue
        now = str(manifest_fields(path).get("content_hash", ""))
        if now != parent.content_hash:
            problem = (
                f"{path.parent}, of kind {parent.kind}, has changed since {folder} was made from it: "
                f"{parent.content_hash[:12]} then, {now[:12] or 'no hash'} now"
            )
            faults.append(Fault(problem, remedy=f"Make {folder} again"))
    return faults
