"""One scan from its files to its masks: read, prepared, segmented, restored to its own grid, written."""

from __future__ import annotations

import time
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import torch

from fewlabel.core.errors import DataError, Fault, FewlabelError
from fewlabel.data.io.volume import Volume, read_volume
from fewlabel.data.preprocess import Plan, prepare_volume, restore_map, restore_probabilities
from fewlabel.scoring.components import clean
from fewlabel.scoring.disagreement import COLUMN as DISAGREEMENT
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.predict.outputs import Mask, millilitres, write_masks
from fewlabel.stages.predict.scans import Scan
from fewlabel.stages.predict.settings import PredictSettings

#: What takes time of a scan.
PARTS = ("read", "prepare", "network", "restore", "write")
_NIFTI = (".nii", ".nii.gz")


def segment_scan(
    scan: Scan,
    model: Segmenter,
    settings: PredictSettings,
    device: str,
    faults: list[Fault],
    parts: dict[str, float],
) -> list[dict[str, Any]]:
    """Segment and write one scan; its rows of the table. What is wrong with it goes to ``faults``."""
    started = time.perf_counter()
    row: dict[str, Any] = {
        "input": ";".join(map(str, scan.images)),
        "output": scan.output.as_posix(),
        "status": "ok",
        "fault": "",
        "model": model.content_hash[:12],
    }
    try:
        volume = read_volume(scan.images)
        parts["read"] += time.perf_counter() - started
        frames = _frames(volume, scan, model.plan)
        masks = [_segment(frame, model, settings, device) for frame in frames]
        before = time.perf_counter()
        write_masks(settings.out, scan, masks, model.plan)
        parts["write"] += time.perf_counter() - before
    except (FewlabelError, OSError, RuntimeError, ValueError) as error:
        wrong = getattr(error, "faults", ()) or (Fault(f"cannot be segmented: {type(error).__name__}: {error}"),)
        fault = wrong[0] if wrong[0].where else replace(wrong[0], where=str(scan.images[0]))
        faults.append(fault)
        return [{**row, "status": "failed", "fault": str(fault), "seconds": round(time.perf_counter() - started, 4)}]
    for mask in masks:
        for name, seconds in mask.seconds.items():
            parts[name] += seconds
    seconds = round((time.perf_counter() - started) / len(masks), 4)
    return [
        {
            **row,
            "frame": number if len(masks) > 1 else None,
            "shape": "x".join(map(str, volume.geometry.shape)),
            "spacing": "x".join(f"{step:.6g}" for step in volume.spacing),
            **millilitres(mask.classes, volume, model.plan),
            "removed_ml": round(mask.removed_ml, 4),
            "confidence": None if mask.confidence is None else round(mask.confidence, 4),
            **({} if mask.disagreement is None else {DISAGREEMENT: round(mask.disagreement, 4)}),
            "seconds": seconds,
        }
        for number, mask in enumerate(masks, start=1)
    ]


def _frames(volume: Volume, scan: Scan, plan: Plan) -> list[Volume]:
    """The scan itself, or the frames of a cine: a single 4D NIfTI for a model of one channel."""
    count = len(volume.array)
    if count == len(plan.channels) or len(plan.channels) > 1 or len(scan.images) > 1:
        return [volume]
    if not scan.images[0].name.lower().endswith(_NIFTI):
        problem = f"{scan.images[0]} has {count} channels, and only a 4D NIfTI can be a cine"
        fault = Fault(problem, remedy="Store it as NIfTI")
        raise DataError("A scan cannot be segmented:", [fault])
    return [Volume(volume.array[index : index + 1], volume.geometry, volume.paths) for index in range(count)]


def _segment(volume: Volume, model: Segmenter, settings: PredictSettings, device: str) -> Mask:
    clock = [time.perf_counter()]
    array, record = prepare_volume(volume, model.plan)
    clock.append(time.perf_counter())
    prediction = model.predict(
        array,
        batch=settings.batch,
        flip=settings.flip,
        device=device,
        precision=settings.precision,
        uncertainty=settings.uncertainty,
    )
    clock.append(time.perf_counter())
    probabilities = restore_probabilities(prediction.probabilities, record)
    best, index = torch.from_numpy(probabilities).max(dim=0)
    rule, voxel_mm3 = model.rule if settings.postprocess else None, prod(volume.spacing)
    classes, removed = clean(index.to(torch.uint8).numpy(), rule, voxel_mm3, int(record["axes"][0]))
    removed_ml = sum(took.voxels for took in removed.values()) * voxel_mm3 / 1000.0
    inside = classes > 0
    confidence = float(best.numpy()[inside].mean(dtype=np.float64)) if inside.any() else None
    uncertainty = None if prediction.uncertainty is None else restore_map(prediction.uncertainty, record)
    clock.append(time.perf_counter())
    taken = dict(zip(("prepare", "network", "restore"), np.diff(clock).tolist(), strict=True))
    kept = probabilities if settings.probabilities else None
    return Mask(classes, kept, confidence, taken, removed_ml, uncertainty, prediction.disagreement)
