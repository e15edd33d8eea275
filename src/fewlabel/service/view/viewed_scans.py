"""The scans that are shown, and what is known of each: of a run, or of a folder of scans alone."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import ArtifactError, DataError, Fault
from fewlabel.core.output_paths import RUN_FILE
from fewlabel.data.added_mask_reading import plan_with_ignored
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.file_names import name_fault
from fewlabel.data.masks_added_later import FOLDER, Annotations, look_through
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.service.view.classes_beside_scans import names_of_values, plan_of_names
from fewlabel.stages.predict import find_scans, find_segmenter

#: The parts of a split that are told apart.
_HELD = ("test", "validation")
#: The table that ``suggest`` leaves in a run.
SUGGESTIONS = "suggestions.csv"
_NOWHERE = Path("no-masks")


@dataclass(frozen=True)
class ViewedScan:
    """One scan.

    Attributes:
        case: Its id, images and mask; of a scan without a run the record is empty.
        part: ``test``, ``validation`` or empty.
        learnt: Whether the network has met its label.
        score: Dice of a network that had not met it, mean over classes; None where nobody measured it.
        disagreement: Of networks on it, in [0, 1]; None where nobody asked them.
    """

    case: PreparedCase
    part: str = ""
    learnt: bool = False
    score: float | None = None
    disagreement: float | None = None

    @property
    def images(self) -> tuple[Path, ...]:
        """One path per channel."""
        return tuple(map(Path, self.case.images))


@dataclass(frozen=True)
class ViewedScans:
    """Scans, their classes, and where masks of them go.

    Attributes:
        scans: In the order of their ids.
        plan: What values in masks stand for, with a value for voxels that nobody looked at.
        annotations: Folder that masks are saved into; None where there is nowhere.
        run: The run folder; None for scans alone.
        store: Its prepared data.
        segmenter: Its network in use; None where none was trained.
        notes: What was left out of a folder of scans, and why.
        stamp: When what a run says of itself was written.
    """

    scans: tuple[ViewedScan, ...]
    plan: Plan
    annotations: Path | None
    run: Path | None = None
    store: PreparedStore | None = None
    segmenter: Artifact | None = None
    notes: tuple[str, ...] = ()
    stamp: tuple[int, ...] = ()

    def latest(self) -> ViewedScans:
        """The same as it is after another round of ``learn`` or another ``suggest``; itself if there was none."""
        if self.run is None or self.annotations is None or _stamp(self.run) == self.stamp:
            return self
        return _of_run(self.run, self.annotations)

    @cached_property
    def cases(self) -> tuple[PreparedCase, ...]:
        """What the scans are prepared from."""
        return tuple(scan.case for scan in self.scans)

    def added_masks(self) -> dict[str, Path]:
        """Id → the mask that somebody saved or put into the folder of annotations; scans with several have none."""
        return self.folder_of_masks().masks

    def folder_of_masks(self) -> Annotations:
        """What lies in the folder of annotations."""
        return Annotations({}, (), {}) if self.annotations is None else look_through(self.annotations, self.cases)


def viewed_scans(
    place: Path,
    annotations: Path | None = None,
    classes: Sequence[str] = (),
    reader: str | Mapping[str, Any] = "auto",
) -> ViewedScans:
    """What lies at a place.

    Args:
        place: A run folder, or a scan, a folder or a table of scans.
        annotations: Folder for masks; None for that of the run.
        classes: Of scans alone: names of what is drawn; the first has the value 1. Empty for those of the masks that
            lie beside the scans.
        reader: Of scans alone: who reads them, as for :func:`fewlabel.stages.predict.find_scans`.

    Raises:
        ArtifactError: If it is a run without prepared data.
        DataError: If there are no scans.
        SettingsError: If the reader or one of its settings is unknown.
    """
    if (place / RUN_FILE).is_file():
        return _of_run(place, annotations or place / FOLDER)
    listed = find_scans(place, 1, annotations or _NOWHERE, reader=reader, with_masks=True)
    faults = {scan: fault for scan in listed.scans for fault in map(name_fault, scan.images) if fault is not None}
    if len(faults) == len(listed.scans):
        raise DataError("There is nothing to show:", [*faults.values(), *listed.faults])
    cases = []
    for scan in (each for each in listed.scans if each not in faults):
        name, mask = str(scan.output.with_name(scan_stem(scan.output))), listed.masks.get(scan.images)
        label = None if mask is None else str(mask)
        cases.append(PreparedCase(name, name, 0, 0, tuple(map(str, scan.images)), label, {}))
    names = dict(enumerate(classes, start=1)) or listed.label_names or names_of_values(listed.masks)
    notes = (*listed.skipped, *map(str, (*listed.faults, *faults.values())))
    return ViewedScans(tuple(map(ViewedScan, cases)), plan_of_names(names), annotations, notes=notes)


def _of_run(run: Path, annotations: Path) -> ViewedScans:
    stamp = _stamp(run)
    segmenter = _segmenter(run)
    folder = (segmenter.parent_folder("prepared") if segmenter is not None else None) or run / "prepared"
    if not folder.is_dir():
        fault = Fault(f"the prepared data of {run} are gone", remedy="Train again")
        raise ArtifactError("There is nothing to show:", [fault])
    store = PreparedStore(folder)
    learnt = set(segmenter.json("segmenter.json").get("labelled_subjects", ())) if segmenter is not None else set()
    parts = {subject: part for part in _HELD for subject in store.split["parts"].get(part, ())}
    scores, apart = _scores(run, segmenter), _disagreement(run)
    scans = [
        ViewedScan(
            case,
            parts.get(case.subject, ""),
            case.subject in learnt and case.label is not None,
            scores.get(case.id),
            apart.get(case.id),
        )
        for case in store.cases
    ]
    plan = plan_with_ignored(Plan.load(store.plan))
    return ViewedScans(tuple(scans), plan, annotations, run, store, segmenter, stamp=stamp)


def _stamp(run: Path) -> tuple[int, ...]:
    """When the files were written that say which network is used, and on which scans networks disagree."""
    files = (run / RUN_FILE, run / SUGGESTIONS)
    return tuple(file.stat().st_mtime_ns if file.is_file() else 0 for file in files)


def _segmenter(run: Path) -> Artifact | None:
    """The network in use; None where the run has trained none yet."""
    try:
        return find_segmenter(run)
    except ArtifactError:
        if any((run / name).exists() for name in ("segmenter", "segmenter-control")):
            raise
        return None


def _scores(run: Path, segmenter: Artifact | None) -> dict[str, float]:
    """Id → mean Dice of test scans, or of those that were left out in turn, by the network in use or its like."""
    tables = []
    scores = Artifact.find(run / "scores", "scores")
    if scores is not None and segmenter is not None:
        made_of = {parent.content_hash for parent in scores.manifest.parents}
        table = pd.read_parquet(io.BytesIO(scores.content("per_case.parquet")))
        arm = "control" if segmenter.folder.name == "segmenter-control" else "model"
        tables += [table[table["arm"] == arm]] if segmenter.content_hash in made_of else []
    if segmenter is not None and "left_out.csv" in segmenter.manifest.files:
        tables.append(pd.read_csv(io.BytesIO(segmenter.content("left_out.csv")), dtype={"case": str}))
    return {
        str(case): float(dice)
        for table in tables
        for case, dice in table.groupby("case")["dice"].mean().items()
        if dice == dice  # noqa: PLR0124  # NaN: nothing to score
    }


def _disagreement(run: Path) -> dict[str, float]:
    """Id → what ``suggest`` asked last."""
    try:
        table = pd.read_csv(run / SUGGESTIONS, dtype={"case": str}).dropna(subset=["disagreement"])
        return dict(zip(table["case"], table["disagreement"].astype(float), strict=True))
    except (OSError, ValueError, KeyError):
        # A table of somebody else, or none.
        return {}
