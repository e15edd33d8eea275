"""Artifact folders: what a stage leaves, with a manifest that says what it is and what it came from."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from fewlabel.core.artifact.files import ANEW, MANIFEST, hash_now, hash_once, unreadable_json
from fewlabel.core.artifact.folder_replacement import restore_replaced
from fewlabel.core.artifact.manifest_fields import (
    SCHEMA_VERSION,
    Manifest,
    Parent,
    content_hash_at,
    content_hash_of,
    read_manifest,
)
from fewlabel.core.artifact.sealed import write_sealed
from fewlabel.core.errors import ArtifactError, Fault, reason
from fewlabel.core.provenance import git_revision, library_versions, machine_facts

Made = TypeVar("Made")

#: Tables and facts up to this size are held against their hashes whenever an artifact is opened.
CHECKED_BYTES = 16 * 2**20
_CHECKED = frozenset({".json", ".parquet"})


@dataclass(frozen=True)
class Artifact:
    """A finished artifact as a stage opened it: each file of it is read once, and is what the manifest promises.

    What is made from it is a child of that content, whatever lies there later.

    Attributes:
        folder: Where it lies.
        manifest: What it is; of a bare folder, empty.
    """

    folder: Path
    manifest: Manifest
    _content: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    _made: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path, kind: str | None = None, *, check_parents: bool = True) -> Artifact:
        """Read and check an artifact folder.

        Raises:
            ArtifactError: If the folder is unfinished, of another kind, of a newer schema, has lost a file, a JSON file
                or table in it was edited, or one of its parents still lies there but has changed since (both hashes are
                named).
        """
        folder = Path(folder)
        path = folder / MANIFEST
        # A process that was killed may have moved it aside.
        if not path.is_file() and not (restore_replaced(folder) and path.is_file()):
            wanted = f"a finished artifact of kind {kind}" if kind else "a finished artifact"
            problem = f"{folder} is not {wanted}: it has no {MANIFEST}"
            if not folder.exists():
                problem = f"{folder} does not exist, but should be {wanted}"
            raise ArtifactError("An artifact cannot be used:", [Fault(problem, remedy="Run its stage first")])
        artifact = cls(folder, read_manifest(path))
        manifest = artifact.manifest
        faults = []
        if kind is not None and manifest.kind != kind:
            problem = f"{folder} is an artifact of kind {manifest.kind}, not {kind}"
            faults.append(Fault(problem, remedy=f"Give a folder of kind {kind}"))
        faults.extend(
            Fault(f"{folder / name} is missing", remedy=ANEW)
            for name in manifest.files
            if not (folder / name).is_file()
        )
        faults.extend(artifact._edited())
        if check_parents:
            faults.extend(_changed_parents(folder, manifest))
        if faults:
            raise ArtifactError("An artifact cannot be used:", faults)
        return artifact

    @classmethod
    def find(cls, folder: Path, kind: str) -> Artifact | None:
        """The finished artifact of that kind that lies there, its parents unlooked at; None if there is none."""
        try:
            return cls.open(folder, kind, check_parents=False)
        except ArtifactError:
            return None

    @classmethod
    def bare(cls, folder: Path) -> Artifact:
        """A folder whose files are held against their hashes as they are read; without a manifest it promises none.

        Raises:
            ArtifactError: If the manifest is damaged.
        """
        path = Path(folder) / MANIFEST
        empty = Manifest(kind="", schema_version=SCHEMA_VERSION, content_hash="", files={})
        return cls(Path(folder), read_manifest(path) if path.is_file() else empty)

    @property
    def kind(self) -> str:
        """What it is, such as ``prepared``, ``segmenter`` or ``round``."""
        return self.manifest.kind

    @property
    def content_hash(self) -> str:
        """Sums up what it holds."""
        return self.manifest.content_hash

    def content(self, name: str) -> bytes:
        """One of its files.

        Raises:
            ArtifactError: If the file is missing, or not as it was made.
        """
        if name not in self._content:
            content = self._held(name, Path.read_bytes, lambda read: hashlib.sha256(read).hexdigest())
            self._content[name] = content
        return self._content[name]

    def json(self, name: str) -> Any:
        """What one of its JSON files holds.

        Raises:
            ArtifactError: As :meth:`content`, or if it is not JSON.
        """
        content = self.content(name)
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise unreadable_json(self.folder / name, error) from error

    def verified(self, name: str) -> Path:
        """Where one of its files lies that is too large to be kept; its content is held against its hash.

        Raises:
            ArtifactError: If the file is missing, or not as it was made.
        """
        if name in self.manifest.files:
            self._held(name, hash_once, str)
        return self.folder / name

    def once(self, name: str, make: Callable[[Path], Made]) -> Made:
        """What is made of a large file, the same whenever it is asked for.

        Args:
            name: The file.
            make: Reads it.

        Raises:
            ArtifactError: As :meth:`verified`.
        """
        if name not in self._made:
            self._made[name] = make(self.verified(name))
        made: Made = self._made[name]
        return made

    def parent_folder(self, kind: str) -> Path | None:
        """The folder of a parent of a kind, if it is still there."""
        for parent in self.manifest.parents:
            candidate = Path(os.path.normpath(self.folder.absolute() / parent.path))
            if parent.kind == kind and (candidate / MANIFEST).is_file():
                return candidate
        return None

    def check_parents(self) -> None:
        """Make sure that those of its parents that still lie there are as they were.

        Raises:
            ArtifactError: If one has changed.
        """
        if faults := _changed_parents(self.folder, self.manifest):
            raise ArtifactError("An artifact cannot be used:", faults)

    def check_unchanged(self) -> None:
        """Make sure that what was read from the folder until now belongs to the artifact that was opened.

        Raises:
            ArtifactError: If another artifact lies there by now, or none.
        """
        now = content_hash_at(self.folder)
        if now != self.content_hash:
            problem = (
                f"{self.folder}, of kind {self.kind}, was replaced while it was being read: "
                f"{self.content_hash[:12]} when it was opened, {now[:12] or 'nothing'} now"
            )
            raise ArtifactError("An artifact cannot be used:", [Fault(problem, remedy="Run the command again")])

    def _edited(self) -> list[Fault]:
        """A fault per small file that is not as it was made; images and weights would take long and are not read."""
        faults: list[Fault] = []
        for name in self.manifest.files:
            path = self.folder / name
            if path.suffix in _CHECKED and path.is_file() and path.stat().st_size <= CHECKED_BYTES:
                try:
                    self.content(name)
                except ArtifactError as error:
                    faults.extend(error.faults)
        return faults

    def _held(self, name: str, read: Callable[[Path], Made], digest: Callable[[Made], str]) -> Made:
        """What is read of a file, once it is held against its hash."""
        try:
            content = read(self.folder / name)
        except OSError as error:
            fault = Fault(f"{self.folder / name} cannot be read ({reason(error)})", remedy=ANEW)
            raise ArtifactError("An artifact is damaged:", [fault]) from error
        if name in self.manifest.files and digest(content) != self.manifest.files[name]:
            fault = Fault(
                f"{self.folder / name} has changed since it was made",
                remedy=f"Put the old file back, or {ANEW.lower()}",
            )
            raise ArtifactError("An artifact is damaged:", [fault])
        return content


def finish_artifact(
    folder: Path,
    kind: str,
    files: Sequence[str],
    *,
    parents: Sequence[Path | Artifact] = (),
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
        kind: ``prepared``, ``encoder``, ``segmenter``, ``scores``, ``predictions``, ``report`` or ``round``.
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
    hashes = {name: hash_now(folder / name) for name in sorted(files)}
    summed = content_hash_of(kind, hashes)
    opened = (
        parent if isinstance(parent, Artifact) else Artifact.open(parent, check_parents=False) for parent in parents
    )
    known = [
        Parent(
            kind=parent.kind,
            path=os.path.relpath(parent.folder.absolute(), home),
            content_hash=parent.content_hash,
        )
        for parent in opened
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
    write_sealed(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


def is_artifact(folder: Path, kind: str) -> bool:
    """Whether a finished artifact of that kind lies there."""
    return Artifact.find(folder, kind) is not None


def _changed_parents(folder: Path, manifest: Manifest) -> list[Fault]:
    faults = []
    for parent in manifest.parents:
        path = Path(os.path.normpath(folder.absolute() / parent.path)) / MANIFEST
        if not path.is_file():
            continue
        now = content_hash_at(path.parent)
        if now != parent.content_hash:
            problem = (
                f"{path.parent}, of kind {parent.kind}, has changed since {folder} was made from it: "
                f"{parent.content_hash[:12]} then, {now[:12] or 'no hash'} now"
            )
            faults.append(Fault(problem, remedy=f"Make {folder} again"))
    return faults
