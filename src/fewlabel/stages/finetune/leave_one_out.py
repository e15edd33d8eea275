"""The fits that leave one labelled patient out in turn: they choose a length, and tell what a new patient may expect.

Each has a folder ``left-out-PATIENT`` in that of the run. A finished one says so there, in ``curve.json`` and
``scores.json``, which an unfinished run goes by when it is continued.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from fewlabel.core.artifact.sealed import read_sealed, write_sealed
from fewlabel.core.collective import barrier, rank
from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.data.io.npz import NPZ_ERRORS
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore
from fewlabel.engine.run_folder_state import mark_run
from fewlabel.engine.weight_files import left_out_file, save_left_out
from fewlabel.scoring.metrics import score_case
from fewlabel.scoring.thirds import COLUMNS as THIRDS
from fewlabel.scoring.thirds import dice_of_thirds
from fewlabel.stages._cleaning_rule import prepared_spacing
from fewlabel.stages.finetune.trainer import MASKS, SegmentationTrainer
from fewlabel.stages.finetune.validated_weights import WEIGHTS, ValidatedWeights, validated_weights

#: Scores of the left-out patients, a row per scan and class.
TABLE = "left_out.csv"
COLUMNS = (
    *("subject", "case", "phase", "class", "class_name", "dice", "hd95_mm", "missed", "invented"),
    *("reference_ml", "predicted_ml", "stray", "stray_ml"),
    *THIRDS,
)
_CURVE, _SCORES = "curve.json", "scores.json"
#: Folder, in that of a fit, of its training up to a length whose weights were not kept.
_AGAIN = "again"


@dataclass
class LeftOut:
    """The left-out fits of one run.

    Attributes:
        out: Folder of the run.
        same: Identity of the run: what another one has left is not taken for its own.
        store: The prepared data.
        subjects: The patients to leave out.
        unseen: Those of them whom the weights that training goes on from have never met: nothing is trained for them.
        goes_on: Whether training goes on from weights, which are scored before.
        trainer: Makes the trainer on all but the patient it is given, in a folder.
        scored: Whether the patients are to be scored.
        compiled: Whether the steps of the run are compiled.
        dice: Step → mean validation Dice of the left-out patients, once :meth:`best_length` knows it.
        before: Rows of :meth:`table_before`.
    """

    out: Path
    same: Mapping[str, Any]
    store: PreparedStore
    subjects: Sequence[str]
    trainer: Callable[[str, Path], SegmentationTrainer]
    scored: bool
    compiled: bool
    unseen: Sequence[str] = ()
    goes_on: bool = False
    dice: dict[int, float] = field(default_factory=dict)
    before: list[dict[str, Any]] = field(default_factory=list)

    def best_length(self) -> int:
        """Number of steps whose Dice, averaged over the left-out patients, is highest.

        Their masks of every validation are kept, to be scored once the length is known, and the weights behind them.
        """
        curves: list[dict[int, float]] = []
        for subject in self.subjects:
            folder = self._folder(subject)
            curve = self._own_curve(folder)
            if curve is None:
                trainer = self._without(subject)
                if self.scored:
                    network = trainer.model.inference_network()
                    trainer.kept = ValidatedWeights.with_room(folder, network, len(self.subjects), curves)
                mark_run(self.out, self.same, compiled=self.compiled)
                trainer.run()
                curve = trainer.curve
                self._keep(folder / _CURVE, {"curve": {str(step): curve[step] for step in curve}})
                trainer.clean()
            curves.append(curve)
        self.dice = {step: float(np.mean([curve[step] for curve in curves])) for step in curves[0]}
        return max(self.dice, key=self.dice.__getitem__)

    def scores(self, length: int | None) -> pd.DataFrame:
        """Columns :data:`COLUMNS`, a row per scan and class of each left-out patient.

        Args:
            length: What :meth:`best_length` chose; None where nothing was chosen that way, and then the fits are run
                here as the model's.
        """
        folders = {subject: self._folder(subject) for subject in self.subjects}
        known = {name: self._own(place / _SCORES) if self._saved(place) else None for name, place in folders.items()}
        # All processes have looked before one of them writes.
        barrier()
        rows: list[dict[str, Any]] = []
        for subject, finished in known.items():
            scored = finished or self._score(subject, length)
            if finished is None:
                self._keep(folders[subject] / _SCORES, scored)
            rows.extend(scored["rows"])
            self.before.extend(scored.get("before", ()))
        return _table(rows)

    def table_before(self) -> pd.DataFrame:
        """As :meth:`scores`, which comes first, of the weights that training went on from; of seen patients alone."""
        return _table(self.before)

    def files(self) -> list[str]:
        """The weights that left patients out, relative to the folder of the run."""
        return [left_out_file(subject) for subject in self.subjects] if self.scored else []

    def clean(self) -> None:
        """Take away the masks and weights of validations, which a finished run does without; rank 0 only."""
        for subject in self.subjects:
            folder = self._folder(subject)
            for name in (MASKS, WEIGHTS, _AGAIN):
                shutil.rmtree(folder / name, ignore_errors=True)

    def _score(self, subject: str, length: int | None) -> dict[str, Any]:
        """Rows of a patient by a network of the others, and by the weights that it went on from."""
        cases = labelled_cases(self.store, (subject,))
        if length is not None:
            return {"rows": self._at_length(subject, length, cases)}
        trainer = self._without(subject)
        mark_run(self.out, self.same, compiled=self.compiled)
        found: dict[str, Any] = {}
        if self.goes_on:
            network = trainer.model.inference_network().eval()
            found["before"] = self._rows(cases, trainer.masks(network, cases))
        if subject in self.unseen:
            found["rows"] = found.pop("before")
        else:
            network = trainer.run()
            found["rows"] = self._rows(cases, trainer.masks(network, cases))
        self._save(subject, network.state_dict())
        trainer.clean()
        return found

    def _at_length(self, subject: str, length: int, cases: Sequence[PreparedCase]) -> list[dict[str, Any]]:
        """Rows of a patient by the network of the others after so many steps, whose weights are saved."""
        folder = self._folder(subject)
        weights = validated_weights(folder, length)
        if weights is not None:
            masks = _read_masks(folder, length, len(cases))
        else:
            # One of the lengths whose weights there was no room for: it is trained again up to there, and so scored.
            trainer = self._without(subject, folder / _AGAIN)
            trainer.validation = ()
            trainer.settings = trainer.settings.model_copy(update={"tracking": ()})
            network = trainer.run(length)
            weights, masks = network.state_dict(), trainer.masks(network, cases)
        self._save(subject, weights)
        return self._rows(cases, masks)

    def _rows(self, cases: Sequence[PreparedCase], masks: Sequence[NDArray[np.uint8]]) -> list[dict[str, Any]]:
        return [row for case, mask in zip(cases, masks, strict=True) for row in case_rows(self.store, case, mask)]

    def _save(self, subject: str, weights: Mapping[str, Tensor]) -> None:
        """Keep the weights: whoever goes on from this run leaves the patient out again."""
        if self.scored and rank() == 0:
            save_left_out(self.out, subject, weights)

    def _without(self, subject: str, folder: Path | None = None) -> SegmentationTrainer:
        """The trainer on all but a patient, by default in the patient's folder; it says so beside its progress bar."""
        trainer = self.trainer(subject, folder or self._folder(subject))
        trainer.title = f"{trainer.title}, without {subject}"
        return trainer

    def _folder(self, subject: str) -> Path:
        return (self.out / left_out_file(subject)).parent

    def _saved(self, folder: Path) -> bool:
        """Whether the weights of a fit lie in its folder."""
        return (folder / Path(left_out_file("")).name).is_file()

    def _own(self, path: Path) -> dict[str, Any] | None:
        """What this very run has left in a file."""
        content = read_sealed(path, "Delete it, and that patient is left out again") if path.is_file() else {}
        return content if content.get("identity") == json.loads(json.dumps(dict(self.same))) else None

    def _own_curve(self, folder: Path) -> dict[int, float] | None:
        """Step → validation Dice of a left-out patient, if this very run has found it before."""
        content = self._own(folder / _CURVE)
        return None if content is None else {int(step): float(value) for step, value in content["curve"].items()}

    def _keep(self, path: Path, content: Mapping[str, Any]) -> None:
        if rank() == 0:
            write_sealed(path, {"identity": self.same, **content})


def _table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    figures = ("hd95_mm", "reference_ml", "predicted_ml", "stray_ml", *THIRDS)
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(figures, "float64"))


def labelled_cases(store: PreparedStore, subjects: Sequence[str]) -> tuple[PreparedCase, ...]:
    """The labelled scans of these subjects, in store order."""
    return tuple(case for case in store.cases if case.subject in subjects and case.label is not None)


def case_rows(store: PreparedStore, case: PreparedCase, predicted: NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Scores of every class of a scan on the prepared grid, without distances where its spacing is unknown.

    Args:
        store: The prepared data.
        case: A labelled scan of it.
        predicted: (depth, height, width) class indices.
    """
    reference = np.array(store.labels[case.start : case.stop])
    ignored = reference == UNLABELLED
    reference[ignored] = 0
    spacing = prepared_spacing(store, case) if case.record.get("spacing_known", True) else None
    names = {index: name for index, name in store.label_names.items() if index}
    cleaned = np.where(ignored, 0, predicted)
    thirds = dict(zip(names, dice_of_thirds(cleaned, reference, list(names)), strict=True))
    scores = score_case(
        cleaned,
        reference,
        spacing or (1.0, 1.0, 1.0),
        list(names),
        surface=spacing is not None,
    )
    scan = {"subject": case.subject, "case": case.id, "phase": _phase(store, case)}
    return [
        {
            **scan,
            "class": score.index,
            "class_name": names[score.index],
            "dice": score.dice,
            "hd95_mm": score.hd95_mm,
            "missed": score.missed,
            "invented": score.invented,
            # Where nobody knows how large voxels are, there is no volume.
            **{key: getattr(score, key) if spacing else None for key in ("reference_ml", "predicted_ml")},
            "stray": score.stray,
            "stray_ml": score.stray_ml if spacing else None,
            **dict(zip(THIRDS, thirds[score.index], strict=True)),
        }
        for score in scores
    ]


def _phase(store: PreparedStore, case: PreparedCase) -> str:
    """Phase of the heartbeat, as the metadata names it; empty where they do not."""
    if "phase" not in store.meta_labels:
        return ""
    # What draws figures is loaded with it.
    from fewlabel.reporting.sections.embedding import class_names

    code = int(store.slices["meta_phase"].iloc[case.start])
    return class_names(store, "phase")[code] if code >= 0 else ""


def _read_masks(folder: Path, length: int, count: int) -> list[NDArray[np.uint8]]:
    path = folder / MASKS / f"{length}.npz"
    try:
        # Arrays in it have a checksum each.
        with np.load(io.BytesIO(path.read_bytes())) as kept:
            return [np.asarray(kept[f"arr_{index}"], dtype=np.uint8) for index in range(count)]
    except (*NPZ_ERRORS, OSError) as error:
        remedy = f"Delete {folder}, and that patient is left out again"
        fault = Fault(f"{path} is damaged: {error}", remedy=remedy)
        raise ArtifactError("The run cannot be resumed:", [fault]) from error
