"""``predict``: a mask for every scan, on the scan's own grid and with the data set's own label values."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewlabel.core.artifact.files import MANIFEST
from fewlabel.core.artifact.manifest import is_artifact, open_artifact
from fewlabel.core.errors import ArtifactError, DataError, Fault, FewlabelError, SettingsError
from fewlabel.core.output_paths import RUN_FILE, path_conflict, unwritable
from fewlabel.core.progress import say, task
from fewlabel.core.settings.config import PathSetting, Settings, setting
from fewlabel.data.io.volume import Volume, collected_warnings, read_volume
from fewlabel.data.preprocess import Plan, prepare_volume, restore_map, restore_probabilities
from fewlabel.engine.runtime import Device, Precision, choose_device, resolved_precision
from fewlabel.scoring.components import clean
from fewlabel.scoring.disagreement import COLUMN as DISAGREEMENT
from fewlabel.stages._in_use import segmenter_in_use
from fewlabel.stages._predictions import Mask, Seconds, millilitres, outputs, record_predictions, write_masks
from fewlabel.stages._scans import Scan, find_scans
from fewlabel.stages._segmenter import Segmenter

_PARTS = ("read", "prepare", "network", "restore", "write")
_NIFTI = (".nii", ".nii.gz")


class PredictSettings(Settings):
    """Settings of ``fewlabel predict``."""

    model: PathSetting = setting(
        ..., "segmenter folder; or run folder made by train or demo: its model, or its control where that is better"
    )
    scans: PathSetting = setting(..., "a scan, a folder of scans, or a table of scans")
    out: PathSetting = setting(..., "folder of the masks")
    reader: str | dict[str, Any] = setting(
        "auto",
        "reader of the scans by id; auto chooses by their look; settings not given are those that prepare had for the "
        "model",
    )
    flip: bool = setting(False, "average predictions over the flips of the slice plane; takes four times as long")
    postprocess: bool = setting(True, "clean masks by the rule that the segmenter holds, if any; never probabilities")
    probabilities: bool = setting(False, "also write class probabilities, float32, classes along the fourth axis")
    uncertainty: bool = setting(
        False,
        "also write a map of uncertainty, float32 in nats: mutual information between network and class; of one "
        "network alone, the entropy of its softmax",
        source="BALD, Houlsby et al. 2011",
    )
    overwrite: bool = setting(False, "replace masks that are there already")
    batch: int = setting(0, "slices, or windows of a 3D network, in one pass; 0 for what suits the device", ge=0)
    device: Device = setting("auto", "where to predict")
    precision: Precision = setting("auto", "bf16 where the hardware has it; probabilities are float32 always")


SETTINGS = PredictSettings


@dataclass(frozen=True)
class _Model:
    """A segmenter with the plan of its pixels."""

    segmenter: Segmenter
    plan: Plan


def run(settings: PredictSettings) -> Path:
    """Write masks, ``predictions.csv`` and ``run_report.json``.

    A mask has the name, format and geometry of its scan (formats that cannot hold a mask in one lossless file change:
    JPEG to PNG, MHD to MHA, NHDR to NRRD, HDR to NII, h5 to NIfTI). A 4D NIfTI is a cine: every frame is segmented and
    the mask is 4D. Masks that other calls left in ``out`` stay, in the folder and in the table.

    Raises:
        SettingsError: If ``out`` is a run folder, another artifact or no place to write in, or holds masks and
            ``overwrite`` is off (nothing is done then).
        ArtifactError: If ``model`` is no segmenter.
        DataError: If there is nothing to segment; or, after all others are written, naming every scan that failed.
    """
    started = time.perf_counter()
    model = _load(settings.model)
    loaded = time.perf_counter() - started
    device = choose_device(settings.device)
    usual = model.segmenter.facts.get("reader", "auto")
    channels = len(model.plan.channels)
    found = find_scans(settings.scans, channels, settings.out, reader=settings.reader, usual=usual)
    _check_out(settings, found.scans)
    for line in found.skipped:
        say(line)
    collected_warnings(clear=True)
    rows: list[dict[str, Any]] = []
    faults: list[Fault] = []
    parts = dict.fromkeys(_PARTS, 0.0)
    try:
        with task("predict", len(found.scans)) as bar:
            for scan in found.scans:
                rows.extend(_one(scan, model, settings, device, faults, parts))
                bar.advance(note=scan.output.name)
    finally:
        # Also when the user stops: what is written is recorded.
        if rows:
            record_predictions(
                settings.out,
                settings.record(),
                model.segmenter,
                model.plan,
                rows,
                found.skipped,
                Seconds(loaded, time.perf_counter() - started, parts),
                device,
                resolved_precision(settings.precision, device),
            )
    for text, paths in collected_warnings().items():
        say(f"{len(paths)} files: {text}")
    done = len(found.scans) - len(faults)
    say(f"{done} of {len(found.scans)} scans segmented into {settings.out}")
    if faults:
        raise DataError(f"{len(faults)} of {len(found.scans)} scans could not be segmented; the others are:", faults)
    return settings.out


def find_model(place: Path) -> Path:
    """The segmenter folder that ``place`` is or, as a run folder, holds and uses; which of two is said.

    Raises:
        ArtifactError: If there is none.
    """
    inside, told = (place, "") if is_artifact(place, "segmenter") else segmenter_in_use(place)
    if told:
        say(told)
    candidates = [folder for folder in (place, inside) if (folder / MANIFEST).is_file()]
    fitting = [folder for folder in candidates if is_artifact(folder, "segmenter")]
    if candidates:
        # Of several, none of the kind, the first says what is wrong.
        chosen = (fitting or candidates)[0]
        open_artifact(chosen, "segmenter")
        return chosen
    found = "no such folder" if not place.exists() else "neither a segmenter nor a run folder with one"
    fault = Fault.of(
        "model must be a finished segmenter", found, str(place), "give the folder made by finetune or train"
    )
    raise ArtifactError("There is no model:", [fault])


def _load(place: Path) -> _Model:
    segmenter = Segmenter.load(find_model(place))
    if "plan" not in segmenter.facts:
        where = str(segmenter.folder / "segmenter.json")
        raise ArtifactError(
            "There is no model:", [Fault.of("a segmenter must hold the plan of its pixels", "none", where)]
        )
    return _Model(segmenter, Plan.load(segmenter.facts["plan"]))


def _check_out(settings: PredictSettings, scans: Sequence[Scan]) -> None:
    out = settings.out
    faults = []
    if obstacle := unwritable(out) if out.is_dir() else path_conflict(out):
        faults.append(Fault.of("--out must be a folder to write in", obstacle, str(out), "give another --out"))
    elif (out / RUN_FILE).is_file():
        remedy = f"give a folder of its own, such as {out / 'masks'}"
        faults.append(Fault.of("masks do not go into a run folder", str(out), "out", remedy))
    elif (out / MANIFEST).is_file() and not is_artifact(out, "predictions"):
        faults.append(Fault.of("--out must not be another artifact", str(out), "out", "give a new folder"))
    inputs = {path.resolve() for scan in scans for path in scan.images}
    for scan in scans:
        targets = outputs(scan.output, probabilities=settings.probabilities, uncertainty=settings.uncertainty)
        for target in (out / target for target in targets):
            if target.resolve() in inputs:
                faults.append(Fault.of("a mask must not replace a scan", str(target), "out", "give another --out"))
            elif target.exists() and not settings.overwrite:
                remedy = "give another --out, or overwrite=true"
                faults.append(Fault.of("masks are not replaced unless asked", str(target), "out", remedy))
    if faults:
        raise SettingsError("Nothing was written:", faults)


def _one(
    scan: Scan,
    model: _Model,
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
        "model": model.segmenter.content_hash[:12],
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
        found = getattr(error, "faults", ()) or (
            Fault.of("a scan must be segmented", f"{type(error).__name__}: {error}"),
        )
        fault = found[0] if found[0].where else replace(found[0], where=str(scan.images[0]))
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
        fault = Fault.of("a cine must be a 4D NIfTI", f"{count} channels", str(scan.images[0]), "store it as NIfTI")
        raise DataError("A scan cannot be segmented:", [fault])
    return [Volume(volume.array[index : index + 1], volume.geometry, volume.paths) for index in range(count)]


def _segment(volume: Volume, model: _Model, settings: PredictSettings, device: str) -> Mask:
    clock = [time.perf_counter()]
    array, record = prepare_volume(volume, model.plan)
    clock.append(time.perf_counter())
    found = model.segmenter.predict(
        array,
        batch=settings.batch,
        flip=settings.flip,
        device=device,
        precision=settings.precision,
        uncertainty=settings.uncertainty,
    )
    clock.append(time.perf_counter())
    probabilities = restore_probabilities(found.probabilities, record)
    best, index = torch.from_numpy(probabilities).max(dim=0)
    rule, voxel_mm3 = model.segmenter.rule if settings.postprocess else None, prod(volume.spacing)
    classes, removed = clean(index.to(torch.uint8).numpy(), rule, voxel_mm3, int(record["axes"][0]))
    removed_ml = sum(took.voxels for took in removed.values()) * voxel_mm3 / 1000.0
    inside = classes > 0
    confidence = float(best.numpy()[inside].mean(dtype=np.float64)) if inside.any() else None
    uncertainty = None if found.uncertainty is None else restore_map(found.uncertainty, record)
    clock.append(time.perf_counter())
    taken = dict(zip(("prepare", "network", "restore"), np.diff(clock).tolist(), strict=True))
    kept = probabilities if settings.probabilities else None
    return Mask(classes, kept, confidence, taken, removed_ml, uncertainty, found.disagreement)
