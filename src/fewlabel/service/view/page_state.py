"""The scans that a page shows as they are now, their masks, and what the page is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact.files import read_json
from fewlabel.core.errors import DataError, FewlabelError
from fewlabel.core.printable import printable
from fewlabel.data.added_mask_reading import read_annotation
from fewlabel.data.annotation_saving import saved_by
from fewlabel.data.io.dicom.address import parse_dicom
from fewlabel.data.io.geometry import Volume
from fewlabel.data.io.label_tables import labels_of
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.preprocess import indices_of_values
from fewlabel.service.learning_job import LearningJob
from fewlabel.service.view.predictions_on_demand import PredictionQueue, prediction_file
from fewlabel.service.view.viewed_scans import ViewedScan, ViewedScans
from fewlabel.service.view.volumes_for_browser import dice_of_classes, errors_between, shown_window


class Viewing:
    """The scans as they are now, and the work that goes on.

    Args:
        scans: What is shown.
        predictions: Makes masks.
        learn: Runs rounds; None where there is no run.
        learning: Settings of these rounds.
    """

    def __init__(
        self,
        scans: ViewedScans,
        predictions: PredictionQueue,
        learn: LearningJob | None = None,
        learning: Mapping[str, Any] | None = None,
    ) -> None:
        self._scans = scans
        self.predictions, self.learn, self.learning = predictions, learn, learning or {}
        self._volume, self._reading = lru_cache(maxsize=2)(read_volume), Lock()

    @property
    def scans(self) -> ViewedScans:
        """What is shown, after the last round of ``learn``."""
        self._scans = self._scans.latest()
        return self._scans

    def volume(self, images: tuple[Path, ...]) -> Volume:
        """A scan, (channels, z, y, x); the last two are kept, and requests that come at once read it once.

        Raises:
            DataError: If it cannot be read.
        """
        # The cache by itself would have both read it, who ask before it is there.
        with self._reading:
            return self._volume(images)

    def prediction(self, scan: ViewedScan) -> NDArray[np.uint8] | None:
        """(z, y, x) class indices; None if it is not made yet."""
        file = prediction_file(self.scans, scan)
        grid = self.volume(scan.images).geometry
        return None if file is None else indices_of_values(read_mask(file, grid=grid), self.scans.plan)

    def annotation(self, scan: ViewedScan) -> NDArray[np.uint8] | None:
        """(z, y, x) class indices of the mask that was saved last, else of that of the data; None without."""
        added = self.scans.folder_of_masks()
        if scan.case.id in added.several:
            raise DataError("No mask of this scan can be shown:", [added.several[scan.case.id]])
        file = added.masks.get(scan.case.id) or scan.case.label
        if file is None:
            return None
        return indices_of_values(read_annotation(scan.case, Path(file), self.scans.plan), self.scans.plan)


def page_state(viewing: Viewing, title: str) -> dict[str, Any]:
    """What the page knows before it opens a scan: classes, what can be done, and what is known of each scan."""
    scans, notes = viewing.scans, list(viewing.scans.notes)
    saved = saved_by(scans.annotations) if scans.annotations is not None else {}
    looked = scans.folder_of_masks()
    added = looked.masks
    # What cannot be used keeps nobody from the rest.
    notes += [f"Left out of the masks: {fault}" for fault in (*looked.strays, *looked.several.values())]
    plan = scans.plan
    return {
        "title": printable(title),
        "classes": [
            {"name": label.name, "value": label.value, "colour": list(label.colour)}
            for label in labels_of(plan.label_names, plan.label_values)
        ],
        "channels": list(plan.channels),
        "predicts": scans.segmenter is not None,
        "saves": scans.annotations is not None and len(plan.label_values) > 1,
        "learns": viewing.learn is not None and scans.segmenter is not None,
        "notes": list(map(printable, notes)),
        "scans": [
            {
                "id": printable(scan.case.id),
                "part": scan.part,
                "learnt": scan.learnt,
                "labelled": scan.case.label is not None,
                "added": scan.case.id in added,
                "saved": saved.get(scan.case.id) if scan.case.id in added else None,
                "score": scan.score,
                "disagreement": scan.disagreement,
            }
            for scan in scans.scans
        ],
    }


def scan_state(viewing: Viewing, scan: ViewedScan) -> dict[str, Any]:
    """What the page needs before it draws a scan."""
    volume = viewing.volume(scan.images)
    masks: dict[str, NDArray[np.uint8] | None] = {}
    problems = []
    for kind, read in (("prediction", viewing.prediction), ("annotation", viewing.annotation)):
        try:
            masks[kind] = read(scan)
        except DataError as error:
            masks[kind] = None
            problems += [error.message, *map(str, error.faults)]
    prediction, annotation = masks["prediction"], masks["annotation"]
    names = viewing.scans.plan.label_names
    return {
        "shape": list(volume.geometry.shape[::-1]),
        "spacing": list(volume.geometry.spacing[::-1]),
        "window": shown_window(volume.array[0]),
        "channels": len(volume.array),
        "placed": volume.geometry.spacing_known,
        "slice_axis": 2 - slice_axis(scan, volume),
        "prediction": prediction is not None,
        "annotation": annotation is not None,
        "dice": None
        if prediction is None or annotation is None
        else dice_of_classes(prediction, annotation, len(names)),
        "problem": " ".join(problems),
    }


def round_state(learn: LearningJob) -> dict[str, Any]:
    """How the last round that was begun here stands, what it said, and what came of it."""
    if not learn.rounds:
        return {"status": "", "lines": [], "round": None}
    made = learn.rounds[-1]
    outcome = _outcome(made.lines) if made.status == "DONE" else None
    return {"status": made.status, "lines": made.lines, "round": outcome}


def _outcome(lines: Sequence[str]) -> dict[str, Any] | None:
    """Number of a round, whether it is used, and why; None where it cannot be read. Its folder is the last line."""
    try:
        record = read_json(Path(lines[-1] if lines else "") / "round.json")
    except (FewlabelError, OSError):
        return None
    return {"number": record["round"], "taken": bool(record["taken"]), "reason": record["reason"]}


def mask_of(viewing: Viewing, scan: ViewedScan, kind: str) -> NDArray[np.uint8] | None:
    """(z, y, x) of the ``prediction``, the ``annotation`` or the ``errors``; None where there is none.

    Raises:
        DataError: If a mask cannot be used.
    """
    if kind == "prediction":
        return viewing.prediction(scan)
    if kind == "annotation":
        return viewing.annotation(scan)
    if kind != "errors":
        return None
    prediction, annotation = viewing.prediction(scan), viewing.annotation(scan)
    return None if prediction is None or annotation is None else errors_between(prediction, annotation)


def slice_axis(scan: ViewedScan, volume: Volume) -> int:
    """Across the slices, of (z, y, x): as the scan was prepared, or as a series was acquired, else the thickest."""
    if "axes" in scan.case.record:
        return int(scan.case.record["axes"][0])
    if parse_dicom(scan.images[0]) is not None:
        return 0
    return int(np.argmax(volume.spacing)) if volume.geometry.shape[0] > 1 else 0
