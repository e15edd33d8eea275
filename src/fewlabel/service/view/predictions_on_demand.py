"""Masks by the network in use, made when somebody looks at a scan, and kept beside the run."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import FewlabelError
from fewlabel.core.output_paths import round_folders
from fewlabel.core.progress import silence
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.unexpected_errors import unforeseen_fault
from fewlabel.service.view.viewed_scans import ViewedScan, ViewedScans
from fewlabel.stages import predict

#: Folder of a run that keeps them, by the content of the network.
FOLDER = "viewed"
#: Makes the mask of a scan into a folder.
Predictor = Callable[[ViewedScans, ViewedScan, Path], None]


@dataclass(frozen=True)
class Making:
    """How far the mask of a scan is: ``waiting``, ``running``, ``failed`` (then ``problem`` says why) or ``done``."""

    state: str
    problem: str = ""


def prediction_file(scans: ViewedScans, scan: ViewedScan) -> Path | None:
    """The mask of a scan by the network in use: of the last round of ``learn``, or made for a look; None without."""
    if scans.segmenter is None or scans.run is None or scans.store is None:
        return None
    name = predict.mask_path(scan.images, scan.case.id)
    for place in (scans.run / FOLDER / scans.segmenter.content_hash[:12], *_rounds(scans.run, scans.segmenter)):
        if (place / name).is_file():
            return place / name
    return None


def make_prediction(scans: ViewedScans, scan: ViewedScan, out: Path) -> None:
    """Have ``predict`` make the mask of one scan; it makes none a second time.

    Raises:
        FewlabelError: Whatever ``predict`` says.
    """
    if scans.segmenter is None or scans.store is None:
        raise ValueError("there is no network")
    values: dict[str, Any] = {"model": scans.segmenter.folder, "scans": scans.store.folder, "out": out}
    with silence():
        predict.run(predict.PredictSettings.parse({**values, "cases": [scan.case.id]}))


class PredictionQueue:
    """Makes masks one after the other in a thread, so that the server answers meanwhile.

    Args:
        make: What makes one.
    """

    def __init__(self, make: Predictor = make_prediction) -> None:
        self._make = make
        self._states: dict[tuple[str, str], Making] = {}
        self._lock = threading.Lock()
        self._asked: queue.SimpleQueue[tuple[ViewedScans, ViewedScan]] = queue.SimpleQueue()
        # It dies with the process: what predict has not finished is begun anew.
        threading.Thread(target=self._work, name="predictions", daemon=True).start()

    def ask(self, scans: ViewedScans, scan: ViewedScan) -> Making:
        """Have a mask made, unless it is on its way; one that failed is tried again."""
        with self._lock:
            state = self._states.get(key := _key(scans, scan))
            if state is None or state.state in {"failed", "done"}:
                state = self._states[key] = Making("waiting")
                self._asked.put((scans, scan))
            return state

    def state(self, scans: ViewedScans, scan: ViewedScan) -> Making | None:
        """How far a mask is; None if nobody asked for it."""
        with self._lock:
            return self._states.get(_key(scans, scan))

    def _work(self) -> None:
        while True:
            scans, scan = self._asked.get()
            self._note(scans, scan, Making("running"))
            self._note(scans, scan, self._made(scans, scan))

    def _made(self, scans: ViewedScans, scan: ViewedScan) -> Making:
        if scans.run is None or scans.segmenter is None:
            return Making("failed", "There is no network to predict with.")
        try:
            self._make(scans, scan, scans.run / FOLDER / scans.segmenter.content_hash[:12])
        except FewlabelError as error:
            return Making("failed", " ".join(map(str, error.faults)) or error.message)
        except Exception as error:  # noqa: BLE001  # nobody else would say what became of it
            return Making("failed", str(unforeseen_fault(error, shown(scan.images[0]), "cannot be segmented")))
        return Making("done")

    def _note(self, scans: ViewedScans, scan: ViewedScan, making: Making) -> None:
        with self._lock:
            self._states[_key(scans, scan)] = making


def _key(scans: ViewedScans, scan: ViewedScan) -> tuple[str, str]:
    return (scans.segmenter.content_hash if scans.segmenter is not None else "", scan.case.id)


def _rounds(run: Path, segmenter: Artifact) -> list[Path]:
    """Folders of masks that rounds of ``learn`` made with this network, the last first."""
    folders = []
    for folder in reversed(round_folders(run)):
        artifact = Artifact.find(folder / "predictions", "predictions")
        if artifact is not None and any(
            parent.content_hash == segmenter.content_hash for parent in artifact.manifest.parents
        ):
            folders.append(artifact.folder)
    return folders
