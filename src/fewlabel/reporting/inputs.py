"""What a report is made from: the artifacts of a run, as many of them as there are."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.manifest_fields import Manifest
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.data.store import PreparedStore
from fewlabel.engine.record import parse_record
from fewlabel.scoring.distance_units import NAMES, named_as_usual

#: Role in a report → name of the folder in a run, and kind of the artifact.
ROLES = {
    "prepared": ("prepared", "prepared"),
    "encoder": ("encoder", "encoder"),
    "segmenter": ("segmenter", "segmenter"),
    "control": ("segmenter-control", "segmenter"),
    "scores": ("scores", "scores"),
}


@dataclass(frozen=True)
class Training:
    """An encoder or segmenter folder: its facts and its record.

    Attributes:
        folder: Where it lies.
        facts: Content of ``encoder.json`` or ``segmenter.json``.
        rows: Rows of ``metrics.jsonl``.
        details: Content of ``details.json``; empty where there is none.
    """

    folder: Path
    facts: dict[str, Any]
    rows: list[dict[str, Any]]
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """A scores folder: ``per_case`` has a row per arm, case and class; ``summary`` is ``summary.json``.

    Measures have their usual names, also where they are in voxels (:mod:`fewlabel.scoring.distance_units`).
    """

    folder: Path
    per_case: pd.DataFrame
    summary: dict[str, Any]


@dataclass(frozen=True)
class Inputs:
    """All that was found; None where it was not, and ``use``, what ``run.json`` says of the choice, empty."""

    store: PreparedStore | None = None
    encoder: Training | None = None
    segmenter: Training | None = None
    control: Training | None = None
    scores: Scores | None = None
    manifests: Mapping[str, Manifest] = field(default_factory=dict)
    artifacts: Mapping[str, Artifact] = field(default_factory=dict)
    use: Mapping[str, Any] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """Id of the pre-training method; empty without an encoder."""
        return str(self.encoder.facts.get("method", "")) if self.encoder else ""

    @property
    def used(self) -> Training | None:
        """The segmenter that ``predict`` on the run folder uses: the model, or its control."""
        return self.control if self.use.get("arm") == "control" else self.segmenter


def find_folders(run: Path | None, given: Mapping[str, Path | None]) -> dict[str, Path]:
    """The artifact folders of a report by role; those given win over those of the run folder.

    Args:
        run: A run folder, or None.
        given: Role to folder; None where it was not given.

    Raises:
        ArtifactError: If there is nothing to report on.
    """
    inside = {} if run is None else {role: run / name for role, (name, _) in ROLES.items()}
    finished = {role: folder for role, folder in inside.items() if (folder / MANIFEST).is_file()}
    folders = {role: folder for role in ROLES if (folder := given.get(role) or finished.get(role)) is not None}
    if not folders:
        problem = "No folder is given" if run is None else f"{run} holds no finished artifact"
        fault = Fault(problem, remedy="Give a run folder, or prepared=, encoder=, segmenter=, control= or scores=")
        raise ArtifactError("There is nothing to report on:", [fault])
    return folders


def load_inputs(folders: Mapping[str, Path]) -> Inputs:
    """Open every artifact.

    Args:
        folders: Role to folder, see :data:`ROLES`.

    Raises:
        ArtifactError: With the faults of all folders that are not finished artifacts of their kind, or whose parents
            changed.
    """
    opened: dict[str, Artifact] = {}
    faults: list[Fault] = []
    for role, folder in folders.items():
        try:
            opened[role] = Artifact.open(folder, ROLES[role][1])
        except ArtifactError as error:
            faults.extend(error.faults)
    if faults:
        raise ArtifactError("A report cannot be made:", faults)
    return Inputs(
        store=PreparedStore(opened["prepared"]) if "prepared" in opened else None,
        encoder=_training(opened.get("encoder"), "encoder.json"),
        segmenter=_training(opened.get("segmenter"), "segmenter.json"),
        control=_training(opened.get("control"), "segmenter.json"),
        scores=_scores(opened.get("scores")),
        manifests={role: artifact.manifest for role, artifact in opened.items()},
        artifacts=opened,
    )


def _training(artifact: Artifact | None, facts: str) -> Training | None:
    if artifact is None:
        return None
    details, record = "details.json", "metrics.jsonl"
    path = artifact.folder / record
    return Training(
        folder=artifact.folder,
        facts=dict(artifact.json(facts)),
        rows=parse_record(artifact.content(record), path) if path.is_file() else [],
        details=dict(artifact.json(details)) if (artifact.folder / details).is_file() else {},
    )


def _scores(artifact: Artifact | None) -> Scores | None:
    if artifact is None:
        return None
    per_case = pd.read_parquet(io.BytesIO(artifact.content("per_case.parquet")))
    summary = named_as_usual(dict(artifact.json("summary.json")))
    return Scores(artifact.folder, per_case.rename(columns=NAMES), summary)
