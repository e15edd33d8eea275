"""One scan from its files to its masks: read, prepared, segmented, restored to its own grid, written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, FewlabelError, is_disk_full
from fewlabel.core.progress import say
from fewlabel.data.back_to_scan_grid import Restoration
from fewlabel.data.io.catalog_paths import shown
from fewlabel.data.io.fourth_axis import why_no_cine
from fewlabel.data.io.geometry import Geometry, Volume
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.data.preprocess import Plan, ScanPreparation
from fewlabel.data.slice_plane import cut_otherwise
from fewlabel.data.unexpected_errors import unforeseen_fault
from fewlabel.engine.runtime import resolved_precision
from fewlabel.scoring.component_rule import clean
from fewlabel.scoring.disagreement import COLUMN as DISAGREEMENT
from fewlabel.scoring.disagreement import Disagreement
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.predict.formats import MaskFormat
from fewlabel.stages.predict.mask_names import Scan, input_of
from fewlabel.stages.predict.outputs import Mask, millilitres, voxels, write_masks
from fewlabel.stages.predict.resuming import Earlier, MaskRecord, scan_hash
from fewlabel.stages.predict.settings import PredictSettings

#: What takes time of a scan.
PARTS = ("read", "prepare", "network", "restore", "write")


def segment_scan(
    scan: Scan,
    model: Segmenter,
    settings: PredictSettings,
    earlier: Earlier,
    form: MaskFormat,
    device: str,
    faults: list[Fault],
    parts: dict[str, float],
) -> list[dict[str, Any]]:
    """Segment and write one scan; its rows of the table. What is wrong with it goes to ``faults``."""
    started = time.perf_counter()
    row: dict[str, Any] = {
        "input": input_of(scan, earlier.home),
        "output": scan.output.as_posix(),
        "status": "ok",
        "fault": "",
        "model": model.content_hash[:12],
    }
    try:
        volume = _sized(read_volume(scan.images), model.plan)
        parts["read"] += time.perf_counter() - started
        geometry, frames = volume.geometry, _frames(volume, scan, model.plan)
        del volume
        masks = []
        while frames:
            predicted = _predict(frames[0], model, settings, device)
            # Nothing of the scan but what was found in it is needed from here on.
            del frames[0]
            masks.append(_cleaned(predicted, geometry, model, settings))
        before = time.perf_counter()
        earlier.begin(scan)
        files = write_masks(earlier.folder, scan, masks, model.plan, form)
        parts["write"] += time.perf_counter() - before
        if odd := cut_otherwise(geometry, np.asarray(model.plan.frame), model.plan.slice_axis):
            say(f"{scan.output.name}: {odd.replace('other scans', 'training scans')}")
    except Exception as error:
        if is_disk_full(error):
            # Not the scan's fault, and the same for all others.
            raise
        fault = _one_fault(error, scan)
        faults.append(fault)
        took = round(time.perf_counter() - started, 4)
        return [{**row, "output": "", "status": "failed", "fault": str(fault), "seconds": took}]
    for mask in masks:
        for name, seconds in mask.seconds.items():
            parts[name] += seconds
    seconds = round((time.perf_counter() - started) / len(masks), 4)
    known = geometry.spacing_known
    rows = [
        {
            **row,
            "frame": number if len(masks) > 1 else None,
            # Along x, y and z, as viewers show them.
            "size": "x".join(map(str, geometry.shape[::-1])),
            "spacing_mm": "x".join(f"{step:.6g}" for step in geometry.spacing[::-1]) if known else None,
            **(millilitres if known else voxels)(mask.classes, geometry, model.plan),
            **({"removed_ml": round(mask.removed_ml, 4)} if known else {"removed_voxels": mask.removed}),
            "confidence": None if mask.confidence is None else round(mask.confidence, 4),
            **({"note": "; ".join(geometry.notes)} if geometry.notes else {}),
            **({} if mask.disagreement is None else {DISAGREEMENT: round(mask.disagreement, 4)}),
            "seconds": seconds,
        }
        for number, mask in enumerate(masks, start=1)
    ]
    earlier.finish(scan, how_made(scan, model, settings, form, device), files, rows)
    return rows


def how_made(scan: Scan, model: Segmenter, settings: PredictSettings, form: MaskFormat, device: str) -> MaskRecord:
    """How the mask of a scan is made by this call."""
    precision = resolved_precision(settings.precision, device)
    changing: dict[str, Any] = {"flip": settings.flip, "postprocess": settings.postprocess, "precision": precision}
    changing |= {"format": form.kind} if form.kind else {}
    return MaskRecord(model.content_hash, changing, scan_hash(scan), settings.beside)


def _sized(volume: Volume, plan: Plan) -> Volume:
    """The scan, its voxels of the size that the plan assumes where its file does not say."""
    return replace(volume, geometry=volume.geometry.sized(plan.voxel_size, known=plan.voxel_size_given))


def _one_fault(error: Exception, scan: Scan) -> Fault:
    """What kept a scan from being segmented, as one fault that names it."""
    where = shown(scan.images[0])
    if not isinstance(error, FewlabelError) or not error.faults:
        return unforeseen_fault(error, where, "cannot be segmented")
    first, *more = error.faults
    problem = f"{first.problem}, and {len(more)} more faults" if more else first.problem
    return replace(first, problem=problem, where=first.where or where)


def _frames(volume: Volume, scan: Scan, plan: Plan) -> list[Volume]:
    """The scan itself, or the frames of a cine: a single 4D NIfTI for a model of one channel."""
    count = len(volume.array)
    if count == len(plan.channels) or len(plan.channels) > 1 or len(scan.images) > 1:
        return [volume]
    if volume.geometry.frames != count:
        problem = f"{scan.images[0]} has {count} channels, such as colours, but the model was trained on one"
        remedy = "Give images of one channel, or a model of that many"
        raise DataError("A scan cannot be segmented:", [Fault(problem, remedy=remedy)])
    if (no_cine := why_no_cine(scan.images[0], count)) is not None:
        raise DataError("A scan cannot be segmented:", [no_cine])
    return [Volume(volume.array[index : index + 1], volume.geometry, volume.paths) for index in range(count)]


@dataclass(frozen=True)
class _Predicted:
    """What networks say of a scan, on the grid of its file.

    Attributes:
        classes: (z, y, x) the class with the highest probability.
        best: (z, y, x) float32, that probability.
        across: The axis across the slices that the networks were given.
        seconds: Part → what it took.
        probabilities: (classes, z, y, x) float32, where they are to be written.
        uncertainty: (z, y, x) float32, where it is to be written.
        disagreement: Of several networks, mean over the foreground classes.
    """

    classes: NDArray[np.uint8]
    best: NDArray[np.float32]
    across: int
    seconds: Mapping[str, float]
    probabilities: NDArray[np.float32] | None
    uncertainty: NDArray[np.float32] | None
    disagreement: float | None


def _predict(volume: Volume, model: Segmenter, settings: PredictSettings, device: str) -> _Predicted:
    """Slab by slab from the voxels of the file to classes on its grid."""
    clock = time.perf_counter()
    preparation = ScanPreparation(volume, model.plan)
    way_back = Restoration(preparation.record)
    taken = dict.fromkeys(("prepare", "network", "restore"), 0.0)
    clock = _lap(taken, "prepare", clock)
    classes, laid_classes = way_back.empty(np.uint8)
    best, laid_best = way_back.empty(np.float32)
    count = len(model.plan.label_values)
    shares, laid_shares = way_back.empty(np.float32, count) if settings.probabilities else (None, None)
    unsure, laid_unsure = way_back.empty(np.float32) if settings.uncertainty else (None, None)
    apart = Disagreement(count)
    done = 0
    for slab in model.predict_slabs(
        preparation,
        batch=settings.batch,
        flip=settings.flip,
        device=device,
        precision=settings.precision,
        uncertainty=settings.uncertainty,
    ):
        clock = _lap(taken, "network", clock)
        at = slice(done, done + slab.probabilities.shape[1])
        done = at.stop
        if slab.masks:
            apart.add(slab.masks)
        restored = way_back.probabilities(slab.probabilities)
        values, index = torch.from_numpy(restored).max(dim=0)
        laid_best[at], laid_classes[at] = values.numpy(), index.numpy()
        if laid_shares is not None:
            laid_shares[:, at] = restored
        if laid_unsure is not None and slab.uncertainty is not None:
            laid_unsure[at] = way_back.values(slab.uncertainty)
        clock = _lap(taken, "restore", clock)
    across = int(preparation.record["axes"][0])
    return _Predicted(classes, best, across, taken, shares, unsure, apart.mean)


def _lap(taken: dict[str, float], part: str, since: float) -> float:
    """Count the time since then as that of a part; the time now."""
    now = time.perf_counter()
    taken[part] += now - since
    return now


def _cleaned(predicted: _Predicted, geometry: Geometry, model: Segmenter, settings: PredictSettings) -> Mask:
    """The mask after the rule for pieces, if there is one."""
    before = time.perf_counter()
    rule, voxel_mm3 = model.rule if settings.postprocess else None, prod(geometry.spacing)
    classes, removed = clean(predicted.classes, rule, voxel_mm3, predicted.across)
    took = sum(pieces.voxels for pieces in removed.values())
    inside = classes > 0
    confidence = float(predicted.best[inside].mean(dtype=np.float64)) if inside.any() else None
    taken = {**predicted.seconds, "restore": predicted.seconds["restore"] + time.perf_counter() - before}
    millilitres_taken = took * voxel_mm3 / 1000.0
    return Mask(
        classes,
        predicted.probabilities,
        confidence,
        taken,
        millilitres_taken,
        predicted.uncertainty,
        predicted.disagreement,
        took,
    )
