"""Whether the files of a run are as they were made, and its artifacts of each other, by their hashes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST, hash_once, read_json
from fewlabel.core.artifact.manifest_fields import content_hash_at, content_hash_of, read_manifest
from fewlabel.core.artifact.run_record import read_run
from fewlabel.core.artifact.sealed import SEAL
from fewlabel.core.errors import ArtifactError
from fewlabel.core.output_paths import RUN_FILE, round_folders
from fewlabel.engine.run_folder_state import FREE_SETTINGS, IDENTITY
from fewlabel.pipelines.verify.findings import Finding, differs, held, not_checked

#: Stage → folder of a run and what is the same in its manifest and in ``run.json``.
_STAGES = {"prepare": "prepared", "pretrain": "encoder", "finetune": "segmenter", "evaluate": "scores"}
#: Settings that a stage makes fit the data before it records them, and those that change no result.
_FITTED = frozenset({"network", "augment", "identity", "workers", *FREE_SETTINGS})


#: In place of the content hash in a manifest that cannot be read, which its own line says.
_UNREADABLE = "?"


@dataclass(frozen=True)
class Sealed:
    """What the hashes say.

    Attributes:
        findings: A line for each artifact, and for the record of the run.
        sound: Name of an artifact in the run → the artifact, of those whose files are all as they were made.
    """

    findings: tuple[Finding, ...]
    sound: Mapping[str, Artifact]


def sealed_parts(run: Path) -> Sealed:
    """Hold every file of a run against its hash, and every artifact against those it was made from."""
    findings, sound = [], {}
    for folder in artifact_folders(run):
        name = folder.relative_to(run).as_posix()
        problems, count = _problems(folder)
        if problems:
            more = f", and {len(problems) - 2} more" if len(problems) > 2 else ""
            findings.append(differs(f"{name}: files", f"{', '.join(problems[:2])}{more}"))
            continue
        sound[name] = Artifact.open(folder, check_parents=False)
        if SEAL in read_json(folder / MANIFEST):
            findings.append(held(f"{name}: files", f"{count} of {count} by their SHA-256"))
        else:
            findings.append(not_checked(f"{name}: files", "its manifest has no seal, as those of older versions"))
    findings += [_origins(name, artifact, sound) for name, artifact in sound.items() if artifact.manifest.parents]
    findings += [
        # Folders may go while they are looked through: masks are saved by way of one.
        not_checked(f"{Path(place).relative_to(run).as_posix()}: files", "unfinished: it has no manifest yet")
        for place, _, names in sorted(os.walk(run))
        if IDENTITY in names and MANIFEST not in names
    ]
    return Sealed((*findings, *_record(run, sound)), sound)


def artifact_folders(run: Path) -> list[Path]:
    """The folders of the artifacts in a run, those of its rounds among them."""
    inner = [
        folder for place in (run, *round_folders(run)) if place.is_dir() for folder in (place, *sorted(place.iterdir()))
    ]
    return [folder for folder in inner if (folder / MANIFEST).is_file()]


def _problems(folder: Path) -> tuple[list[str], int]:
    """What is wrong with the files of an artifact, and how many it has."""
    try:
        manifest = read_manifest(folder / MANIFEST)
    except ArtifactError as error:
        return [fault.problem.replace(f"{folder}/", "") for fault in error.faults], 0
    problems = []
    for name, digest in manifest.files.items():
        if not (folder / name).is_file():
            problems.append(f"{name} is missing")
        elif hash_once(folder / name) != digest:
            problems.append(f"{name} has changed")
    if manifest.content_hash != content_hash_of(manifest.kind, manifest.files):
        problems.append("its content hash is not that of its files")
    return problems, len(manifest.files)


def _origins(name: str, artifact: Artifact, sound: Mapping[str, Artifact]) -> Finding:
    """Whether an artifact was made from what lies in the run."""
    there = {one.content_hash: label for label, one in sound.items()}
    names: list[str] = []
    missing: list[str] = []
    wrong: list[str] = []
    for parent in artifact.manifest.parents:
        if parent.content_hash in there:
            names.append(there[parent.content_hash])
            continue
        now = _content_hash(Path(os.path.normpath(artifact.folder.absolute() / parent.path)))
        if now in (parent.content_hash, _UNREADABLE):
            names.append(f"{parent.kind}, whose files differ")
        else:
            (wrong if now else missing).append(f"{parent.kind} {parent.content_hash[:12]}")
    identity = artifact.manifest.settings.get("identity", {})
    claimed = {str(value) for key, value in identity.items() if key.endswith("_hash")}
    claimed |= set(map(str, identity.get("parents", ())))
    # A control from scratch names the encoder of its model, too.
    strange = claimed - {parent.content_hash for parent in artifact.manifest.parents} - there.keys()
    part = f"{name}: made from"
    if wrong:
        return differs(part, f"{', '.join(wrong)}: another one lies there")
    if strange and artifact.kind != "segmenter":
        hashes = ", ".join(value[:12] for value in sorted(strange))
        return differs(part, f"{hashes} by its settings, and not by its seal")
    if missing:
        return not_checked(part, f"{', '.join(missing)}: not in the run")
    return held(part, ", ".join(names))


def _content_hash(folder: Path) -> str:
    """The content hash of what lies in a folder; empty if nothing does."""
    try:
        return content_hash_at(folder)
    except ArtifactError:
        return _UNREADABLE


def _record(run: Path, sound: Mapping[str, Artifact]) -> Iterator[Finding]:
    """What ``run.json`` says, held against the artifacts."""
    part = RUN_FILE
    if not (run / RUN_FILE).is_file():
        yield not_checked(part, "there is none")
        return
    try:
        record = read_run(run)
    except ArtifactError as error:
        yield differs(part, error.faults[0].problem.replace(f"{run}/", ""))
        return
    if SEAL not in read_json(run / RUN_FILE):
        yield not_checked(part, "it has no seal, as those of older versions")
    chosen = (record.get("use") or {}).get("content", {})
    names = {"model": "segmenter", "control": "segmenter-control"}
    other = [
        names[arm]
        for arm, digest in chosen.items()
        if arm in names and names[arm] in sound and sound[names[arm]].content_hash != digest
    ]
    if other:
        yield differs(part, f"it chose between other weights than those of {' and '.join(other)}")
        return
    apart = [line for stage, folder in _STAGES.items() for line in _apart(stage, folder, record, sound)]
    if apart:
        more = f", and {len(apart) - 2} more" if len(apart) > 2 else ""
        yield differs(part, f"{', '.join(apart[:2])}{more} differ from what the artifact was made with")
        return
    yield held(part, "sealed; settings and choice are those of the artifacts")


def _apart(stage: str, folder: str, record: Mapping[str, Any], sound: Mapping[str, Artifact]) -> list[str]:
    """Settings of a stage that differ between the record and the artifact."""
    asked = record.get("settings", {}).get(stage)
    if asked is None or folder not in sound:
        return []
    made = sound[folder].manifest.settings
    paths = {"data", "out", "encoder", "segmenter", "control", "start", "resume", "run"}
    return [
        f"{stage}.{key}"
        for key in asked.keys() & made.keys() - _FITTED - paths
        if asked[key] != made[key] and not _is_path(asked[key])
    ]


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and "/" in value
