"""Whether the scores of a run are those of its weights: predicted and scored again."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import FewlabelError
from fewlabel.data.io.catalog_paths import is_there
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.engine.runtime import choose_device
from fewlabel.pipelines.verify.findings import (
    Finding,
    agreement,
    differs,
    held,
    not_checked,
    recorded_precision,
    refused,
    threads,
)
from fewlabel.reporting.formatting import count
from fewlabel.scoring.distance_units import NAMES
from fewlabel.stages import evaluate
from fewlabel.stages.evaluate import EvaluateSettings, Segmenter

_NAMED = ("arm", "case", "class")
#: What is known of a prediction where the label is gone.
_OF_PREDICTION = ("predicted_ml", "removed", "removed_ml")
#: Dice on the prepared grid is this near to that on the label's own.
RESAMPLED = 0.1


def repeated_scores(
    scores: Artifact, store: PreparedStore, arms: Mapping[str, Path], folder: Path, device: str, tolerance: float
) -> Finding:
    """Predict and score again.

    Args:
        scores: The scores.
        store: The prepared data.
        arms: ``model`` and, if there is one, ``control`` → folder of the segmenter.
        folder: A folder to work in.
        device: Where to predict.
        tolerance: Relative, of a measure.
    """
    part = "scores: repeated"
    recorded = {key: value for key, value in scores.manifest.settings.items() if key != "identity"}
    places = {"data": store.folder, "segmenter": arms["model"], "control": arms.get("control"), "out": folder}
    known = pd.read_parquet(io.BytesIO(scores.content("per_case.parquet"))).rename(columns=NAMES)
    if missing := [name for name in _NAMED if name not in known]:
        return differs(part, f"per_case.parquet has no column {missing[0]}")
    cases = {case.id: case for case in store.cases}
    try:
        settings = EvaluateSettings.parse(
            {**recorded, **places, "device": device, "precision": recorded_precision(scores)}
        )
        with threads(scores.manifest.machine.get("threads")):
            wanted = [cases[name] for name in known["case"].unique() if name in cases]
            if settings.grid == "original" and not all(is_there(Path(case.label or "")) for case in wanted):
                return _without_labels(known, store, wanted, settings, tolerance, part)
            evaluate.run(settings)
    except FewlabelError as error:
        return refused(part, error)
    again = pd.read_parquet(folder / "per_case.parquet").rename(columns=NAMES)
    if list(map(tuple, again[list(_NAMED)].to_numpy())) != list(map(tuple, known[list(_NAMED)].to_numpy())):
        return differs(part, "other scans, arms or structures are scored")
    return agreement(_pairs(known, again)).finding(
        part, f"{count(len(wanted), 'scan')} predicted and scored", tolerance
    )


def _without_labels(
    known: pd.DataFrame,
    store: PreparedStore,
    cases: list[PreparedCase],
    settings: EvaluateSettings,
    tolerance: float,
    part: str,
) -> Finding:
    """What can be known without the label files: volumes of predictions, and Dice on the prepared grid."""
    rows = _predictions(store, cases, settings)
    if not rows:
        return not_checked(part, "the label files are gone")
    again = known[list(_NAMED)].merge(pd.DataFrame(rows), on=list(_NAMED), how="left")
    found = agreement(_pairs(known, again, _OF_PREDICTION)).finding(part, "predicted volumes", tolerance)
    if found.verdict == "differs":
        return found
    evaluate.run(settings.model_copy(update={"grid": "prepared", "surface": False}))
    rough = pd.read_parquet(settings.out / "per_case.parquet").rename(columns=NAMES)
    apart = known[[*_NAMED, "dice"]].merge(rough[[*_NAMED, "dice"]], on=list(_NAMED), how="left")
    farthest = float(np.nanmax(np.abs(apart["dice_x"] - apart["dice_y"]), initial=0.0))
    told = f"{found.detail}; Dice on the prepared grid up to {farthest:.2f} off, for the label files are gone"
    return held(part, told) if farthest <= RESAMPLED else differs(part, told)


def _predictions(store: PreparedStore, cases: list[PreparedCase], settings: EvaluateSettings) -> list[dict[str, Any]]:
    """Rows of what is known of predictions alone."""
    folders = {"model": settings.segmenter, **({"control": settings.control} if settings.control else {})}
    arms = {name: Segmenter.load(folder) for name, folder in folders.items()}
    device = choose_device(settings.device)
    sized = all(case.record.get("spacing_known", True) for case in cases)
    rows = []
    for case in cases:
        images = np.asarray(store.images[case.start : case.stop], dtype=np.float32).swapaxes(0, 1)
        voxel = prod(map(float, case.record["spacing"]))
        # In files that do not say how large a voxel is, volumes are counts of voxels.
        size, of = (voxel, 1000.0) if sized else (1.0, 1.0)
        for name, arm in arms.items():
            found = evaluate.segmented(arm, images, case, settings, device, voxel)
            for index in (index for index in store.label_names if index):
                took = found.removed.get(index)
                pieces, voxels = (took.pieces, took.voxels) if took else (0, 0)
                cleaned = int((found.cleaned == index).sum())
                measures = (cleaned * (size / of), pieces, voxels * size / of)
                measured = dict(zip(_OF_PREDICTION, measures, strict=True))
                rows.append({"arm": name, "case": case.id, "class": index, **measured})
    return rows


def _pairs(
    known: pd.DataFrame, again: pd.DataFrame, columns: tuple[str, ...] | None = None
) -> dict[str, tuple[Any, Any]]:
    """Name of a number → recorded and repeated, of all columns of numbers or of these."""
    numbers = known.select_dtypes(["number", "bool"]).columns if columns is None else columns
    return {
        f"{column} of {row['case']}, {row['arm']}, class {row['class']}": (row[column], other[column])
        for column in numbers
        if column != "class" and column in again
        for row, other in zip(known.to_dict("records"), again.to_dict("records"), strict=True)
    }
