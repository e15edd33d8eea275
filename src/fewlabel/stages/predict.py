"""``predict``: a mask for every scan, on the scan's own grid and with the data set's own label values."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from fewlabel.core.artifact import (
    MANIFEST,
    finish_artifact,
    is_artifact,
    library_versions,
    machine_facts,
    open_artifact,
    write_json,
    write_text,
)
from fewlabel.core.config import PathSetting, Settings, setting
from fewlabel.core.errors import ArtifactError, DataError, Fault, FewlabelError, SettingsError
from fewlabel.core.progress import say, task
from fewlabel.data.preprocess import Plan, prepare_volume, restore_probabilities
from fewlabel.data.volume import (
    Volume,
    collected_warnings,
    read_volume,
    scan_stem,
    write_mask,
    write_probabilities,
)
from fewlabel.engine.inference import folded, predict_volume, window_of
from fewlabel.engine.runtime import Device, Precision, choose_device
from fewlabel.engine.weights import load_segmenter
from fewlabel.nets.unet import UNet
from fewlabel.stages._scans import Scan, find_scans

TABLE = "predictions.csv"
REPORT = "run_report.json"
_PARTS = ("read", "prepare", "network", "restore", "write")
_NIFTI = (".nii", ".nii.gz")


class PredictSettings(Settings):
    """Settings of ``fewlabel predict``."""

    model: PathSetting = setting(..., "segmenter folder, or run folder made by train or demo")
    scans: PathSetting = setting(..., "a scan, a folder of scans, or a table of scans")
    out: PathSetting = setting(..., "folder of the masks")
    flip: bool = setting(False, "average predictions over the flips of the slice plane; takes four times as long")
    probabilities: bool = setting(False, "also write class probabilities, float32, classes along the fourth axis")
    overwrite: bool = setting(False, "replace masks that are there already")
    batch: int = setting(0, "slices, or windows of a 3D network, in one pass; 0 for what suits the device", ge=0)
    device: Device = setting("auto", "where to predict")
    precision: Precision = setting("auto", "bf16 where the hardware has it; probabilities are float32 always")


SETTINGS = PredictSettings


@dataclass(frozen=True)
class _Model:
    """A segmenter ready to predict."""

    folder: Path
    network: UNet
    plan: Plan
    content_hash: str
    window: tuple[int, int, int]


@dataclass(frozen=True)
class _Mask:
    """What was predicted for one scan or one frame of a cine."""

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None
    confidence: float | None
    seconds: Mapping[str, float]


def run(settings: PredictSettings) -> Path:
    """Write masks, ``predictions.csv`` and ``run_report.json``.

    A mask has the name, format and geometry of its scan (formats that cannot hold a mask in one lossless file change:
    JPEG to PNG, MHD to MHA, NHDR to NRRD, HDR to NII, h5 to NIfTI). A 4D NIfTI is a cine: every frame is segmented and
    the mask is 4D. Masks that other calls left in ``out`` stay, in the folder and in the table.

    Raises:
        SettingsError: If ``out`` is another artifact, or holds masks and ``overwrite`` is off (nothing is done then).
        ArtifactError: If ``model`` is no segmenter.
        DataError: If there is nothing to segment; or, after all others are written, naming every scan that failed.
    """
    started = time.perf_counter()
    model = _load(settings.model)
    loaded = time.perf_counter() - started
    device = choose_device(settings.device)
    found = find_scans(settings.scans, len(model.plan.channels), settings.out)
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
            _record(settings, model, rows, found.skipped, parts, device, loaded, time.perf_counter() - started)
    for text, paths in collected_warnings().items():
        say(f"{len(paths)} files: {text}")
    done = len(found.scans) - len(faults)
    say(f"{done} of {len(found.scans)} scans segmented into {settings.out}")
    if faults:
        raise DataError(f"{len(faults)} of {len(found.scans)} scans could not be segmented; the others are:", faults)
    return settings.out


def find_model(place: Path) -> Path:
    """The segmenter folder that ``place`` is or, as a run folder, holds.

    Raises:
        ArtifactError: If there is none.
    """
    candidates = (place, place / "segmenter")
    for candidate in candidates:
        if (candidate / MANIFEST).is_file():
            open_artifact(candidate, "segmenter")
            return candidate
    found = "no such folder" if not place.exists() else "neither a segmenter nor a run folder with one"
    fault = Fault("model must be a finished segmenter", found, str(place), "give the folder made by finetune or train")
    raise ArtifactError("There is no model:", [fault])


def _load(place: Path) -> _Model:
    folder = find_model(place)
    network, facts = load_segmenter(folder)
    if "plan" not in facts:
        fault = Fault("a segmenter must hold the plan of its pixels", "none", str(folder / "segmenter.json"))
        raise ArtifactError("There is no model:", [fault])
    manifest = open_artifact(folder, "segmenter")
    return _Model(folder, folded(network), Plan.load(facts["plan"]), manifest.content_hash, window_of(facts))


def _check_out(settings: PredictSettings, scans: Sequence[Scan]) -> None:
    out = settings.out
    faults = []
    if (out / MANIFEST).is_file() and not is_artifact(out, "predictions"):
        faults.append(Fault("--out must not be another artifact", str(out), "out", "give a new folder"))
    inputs = {path.resolve() for scan in scans for path in scan.images}
    for scan in scans:
        targets = [scan.output, *([_probability_path(scan.output)] if settings.probabilities else [])]
        for target in (out / target for target in targets):
            if target.resolve() in inputs:
                faults.append(Fault("a mask must not replace a scan", str(target), "out", "give another --out"))
            elif target.exists() and not settings.overwrite:
                remedy = "give another --out, or overwrite=true"
                faults.append(Fault("masks are not replaced unless asked", str(target), "out", remedy))
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
        "model": model.content_hash[:12],
    }
    try:
        volume = read_volume(scan.images)
        parts["read"] += time.perf_counter() - started
        frames = _frames(volume, scan, model.plan)
        masks = [_segment(frame, model, settings, device) for frame in frames]
        before = time.perf_counter()
        _write(scan, masks, model.plan, settings)
        parts["write"] += time.perf_counter() - before
    except (FewlabelError, OSError, RuntimeError, ValueError) as error:
        found = getattr(error, "faults", ()) or (Fault("a scan must be segmented", f"{type(error).__name__}: {error}"),)
        fault = (
            found[0] if found[0].where else Fault(found[0].rule, found[0].found, str(scan.images[0]), found[0].remedy)
        )
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
            **_millilitres(mask.classes, volume, model.plan),
            "confidence": None if mask.confidence is None else round(mask.confidence, 4),
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
        fault = Fault("a cine must be a 4D NIfTI", f"{count} channels", str(scan.images[0]), "store it as NIfTI")
        raise DataError("A scan cannot be segmented:", [fault])
    return [Volume(volume.array[index : index + 1], volume.geometry, volume.paths) for index in range(count)]


def _segment(volume: Volume, model: _Model, settings: PredictSettings, device: str) -> _Mask:
    clock = [time.perf_counter()]
    array, record = prepare_volume(volume, model.plan)
    clock.append(time.perf_counter())
    prepared = predict_volume(
        model.network,
        array,
        batch=settings.batch,
        flip=settings.flip,
        device=device,
        precision=settings.precision,
        window=model.window,
    )
    clock.append(time.perf_counter())
    probabilities = restore_probabilities(prepared, record)
    best, index = torch.from_numpy(probabilities).max(dim=0)
    classes = index.to(torch.uint8).numpy()
    inside = classes > 0
    confidence = float(best.numpy()[inside].mean(dtype=np.float64)) if inside.any() else None
    clock.append(time.perf_counter())
    taken = dict(zip(("prepare", "network", "restore"), np.diff(clock).tolist(), strict=True))
    return _Mask(classes, probabilities if settings.probabilities else None, confidence, taken)


def _write(scan: Scan, masks: Sequence[_Mask], plan: Plan, settings: PredictSettings) -> None:
    """Write the mask in raw label values, 4D for a cine, and its probabilities if asked."""
    values = np.array(plan.label_values)
    kinds = (np.uint8, np.int16, np.int32)
    fitting = (kind for kind in kinds if np.iinfo(kind).min <= values.min() and values.max() <= np.iinfo(kind).max)
    lookup = values.astype(next(fitting, np.int64))
    raw = lookup[np.stack([mask.classes for mask in masks])]
    target = settings.out / scan.output
    write_mask(target, raw if len(masks) > 1 else raw[0], scan.images[0])
    for number, mask in enumerate(masks, start=1):
        if mask.probabilities is not None:
            frame = number if len(masks) > 1 else None
            write_probabilities(_probability_path(target, frame), mask.probabilities, scan.images[0])


def _probability_path(mask: Path, frame: int | None = None) -> Path:
    stem = scan_stem(mask)
    suffix = mask.name[len(stem) :]
    # Picture formats hold no float32.
    suffix = suffix if suffix in {*_NIFTI, ".nrrd", ".mha"} else ".nii.gz"
    number = "" if frame is None else f"_frame{frame:02d}"
    return mask.with_name(f"{stem}{number}_probabilities{suffix}")


def _millilitres(classes: NDArray[np.uint8], volume: Volume, plan: Plan) -> dict[str, float]:
    counts = np.bincount(classes.ravel(), minlength=len(plan.label_names))
    voxel = float(np.prod(volume.spacing)) / 1000.0
    return {
        f"ml_{name}": round(float(counts[index]) * voxel, 4) for index, name in enumerate(plan.label_names) if index
    }


def _record(
    settings: PredictSettings,
    model: _Model,
    rows: Sequence[Mapping[str, Any]],
    skipped: Sequence[str],
    parts: Mapping[str, float],
    device: str,
    loaded: float,
    total: float,
) -> None:
    """Table, report and manifest; rows of earlier calls stay unless their mask was made again."""
    out = settings.out
    volumes = sum(row["status"] == "ok" for row in rows)
    table = pd.DataFrame(rows)
    if (out / TABLE).is_file():
        before = pd.read_csv(io.BytesIO((out / TABLE).read_bytes()))
        before = before[~before["output"].isin(table["output"])]
        table = pd.concat([before, table]) if len(before) else table
    table = table.sort_values(["output"], kind="stable")
    write_text(out / TABLE, table.to_csv(index=False))
    report = {
        "settings": settings.record(),
        "model": {"folder": str(model.folder), "content_hash": model.content_hash},
        "label_values": dict(zip(model.plan.label_names, model.plan.label_values, strict=True)),
        "volumes": volumes,
        "failed": [row["fault"] for row in rows if row["status"] != "ok"],
        "skipped": list(skipped),
        "seconds": {
            "load_model": round(loaded, 4),
            "total": round(total, 4),
            "per_volume": {name: round(seconds / max(volumes, 1), 4) for name, seconds in parts.items()},
        },
        "device": device,
        "versions": library_versions(),
        "machine": machine_facts(),
    }
    write_json(out / REPORT, report)
    masks = table.loc[table["status"] == "ok", "output"].unique()
    probabilities = [path.relative_to(out).as_posix() for path in out.rglob("*_probabilities.*")]
    files = {name for name in (*masks, *probabilities) if (out / name).is_file()}
    finish_artifact(
        out,
        "predictions",
        sorted({*files, TABLE, REPORT}),
        parents=[model.folder],
        settings=settings.record(),
        device=device,
        wall_seconds=total,
    )
