"""What ``predict`` leaves: masks, probabilities, maps of uncertainty, a table and a report."""

from __future__ import annotations

import glob
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import write_json, write_text
from fewlabel.core.artifact.own_files import PREDICT_REPORT
from fewlabel.core.progress import say
from fewlabel.core.provenance import library_versions, machine_facts
from fewlabel.core.settings.base import path_from
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.dicom.address import parse_dicom
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.io.mask_writing import write_map, write_probabilities
from fewlabel.data.preprocess import Plan
from fewlabel.data.voxel_counts import counts_of
from fewlabel.engine.runtime import resolved_precision
from fewlabel.scoring.voxel_uncertainty import ENTROPY, MUTUAL_INFORMATION
from fewlabel.stages._cleaning_rule import KEY as POSTPROCESS
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.predict.formats import MaskFormat, files_of
from fewlabel.stages.predict.inputs import Found
from fewlabel.stages.predict.mask_names import Scan, input_of
from fewlabel.stages.predict.output_destination import Destination
from fewlabel.stages.predict.resuming import TABLE, Earlier, with_rows
from fewlabel.stages.predict.settings import PredictSettings

_NIFTI = (".nii", ".nii.gz")


@dataclass(frozen=True)
class Mask:
    """What was predicted for one scan or one frame of a cine, and how much of it was cleaned away."""

    classes: NDArray[np.uint8]
    probabilities: NDArray[np.float32] | None
    confidence: float | None
    seconds: Mapping[str, float]
    removed_ml: float = 0.0
    uncertainty: NDArray[np.float32] | None = None
    disagreement: float | None = None
    removed: int = 0


@dataclass(frozen=True)
class Seconds:
    """What a call took: the model, all of it, and its parts over all scans."""

    load: float
    total: float
    parts: Mapping[str, float]


def write_masks(out: Path, scan: Scan, masks: Sequence[Mask], plan: Plan, form: MaskFormat) -> list[Path]:
    """Write the mask, of all frames of a cine, and its probabilities and uncertainty if there are any.

    Returns:
        The files.
    """
    target = out / scan.output
    frames = np.stack([mask.classes for mask in masks]) if len(masks) > 1 else masks[0].classes[None]
    form.write(target, frames, scan.images[0], plan)
    written = files_of(form, target)
    for number, mask in enumerate(masks, start=1):
        frame = number if len(masks) > 1 else None
        if mask.probabilities is not None:
            written.append(_beside(target, "probabilities", frame))
            write_probabilities(written[-1], mask.probabilities, scan.images[0])
        if mask.uncertainty is not None:
            written.append(_beside(target, "uncertainty", frame))
            write_map(written[-1], mask.uncertainty, scan.images[0])
    return written


def outputs(mask: Path, form: MaskFormat, kinds: Sequence[str]) -> list[Path]:
    """A mask and what goes beside it, of a scan of one frame."""
    return [*files_of(form, mask), *(_beside(mask, kind) for kind in kinds)]


def standing(mask: Path, form: MaskFormat, kinds: Sequence[str]) -> list[Path]:
    """What is there of a mask and of what goes beside it, of frames too, sorted; a link counts, wherever it leads."""
    frames = (_beside(mask, kind, frame=0).name for kind in kinds)
    named = [name.partition("_frame00_") for name in frames]
    numbered = [path for stem, _, kind in named for path in mask.parent.glob(f"{glob.escape(stem)}_frame*_{kind}")]
    return sorted({*numbered, *(path for path in outputs(mask, form, kinds) if os.path.lexists(path))})


def _beside(mask: Path, kind: str, frame: int | None = None) -> Path:
    """Where float32 values that belong to a mask go, or to one frame of it, from 1."""
    stem = scan_stem(mask)
    suffix = mask.name[len(stem) :]
    # Picture formats hold no float32.
    suffix = suffix if suffix in {*_NIFTI, ".nrrd", ".mha"} else ".nii.gz"
    number = "" if frame is None else f"_frame{frame:02d}"
    return mask.with_name(f"{stem}{number}_{kind}{suffix}")


def millilitres(classes: NDArray[np.uint8], geometry: Geometry, plan: Plan) -> dict[str, float]:
    """Volume of every class but the background, as columns of the table."""
    counts = counts_of(classes, len(plan.label_names))
    voxel = float(np.prod(geometry.spacing)) / 1000.0
    return {
        f"ml_{name}": round(float(counts[index]) * voxel, 4) for index, name in enumerate(plan.label_names) if index
    }


def voxels(classes: NDArray[np.uint8], geometry: Geometry, plan: Plan) -> dict[str, int]:  # noqa: ARG001
    """Voxels of every class but the background, as columns of the table, where nobody knows how large they are."""
    counts = counts_of(classes, len(plan.label_names))
    return {f"voxels_{name}": int(counts[index]) for index, name in enumerate(plan.label_names) if index}


def sizes(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each mask with the size of its structures, as the rows of the table have them."""
    lines = []
    for row in rows:
        units = {"ml_": "mL", "voxels_": "voxels"}
        named = [
            f"{key.removeprefix(start)} {value:g} {unit}"
            for key, value in row.items()
            for start, unit in units.items()
            if key.startswith(start)
        ]
        frame = f", frame {row['frame']}" if row.get("frame") else ""
        lines += [f"{row['output']}{frame}: {', '.join(named)}"] if named else []
    return lines


def recorded_settings(settings: PredictSettings, found: Found, home: Path) -> dict[str, Any]:
    """The settings as they are kept: of DICOM without the folder, whose name may be that of a patient."""
    record = settings.record(home)
    if any(parse_dicom(path) is not None for scan in found.scans for path in scan.images):
        record["scans"] = "DICOM"
    return record


def record_predictions(
    settings: PredictSettings,
    destination: Destination,
    model: Segmenter,
    form: MaskFormat,
    rows: Sequence[Mapping[str, Any]],
    earlier: Earlier,
    found: Found,
    seconds: Seconds,
    device: str,
) -> None:
    """Tables, report and, of a folder, manifest; there rows of earlier calls stay unless their mask was made again."""
    out, plan, precision = destination.folder, model.plan, resolved_precision(settings.precision, device)
    volumes = sum(row["status"] == "ok" for row in rows)
    table = with_rows(earlier.table, pd.DataFrame(rows), (input_of(scan, earlier.home) for scan in found.scans))
    table = table.sort_values(["input"], kind="stable")
    write_text(destination.beside(TABLE), table.to_csv(index=False))
    masks = set(table.loc[table["status"] == "ok", "output"])
    report = {
        "settings": recorded_settings(settings, found, out),
        "model": {
            "folder": path_from(out, model.folder),
            "content_hash": model.content_hash,
            "members": len(model.networks),
        },
        "uncertainty": (MUTUAL_INFORMATION if len(model.networks) > 1 else ENTROPY) if settings.uncertainty else "",
        "postprocess": model.facts.get(POSTPROCESS) if settings.postprocess else None,
        "masks": {name: asdict(record) for name, record in sorted(earlier.records.items()) if name in masks},
        "label_values": dict(zip(plan.label_names, plan.label_values, strict=True)),
        "volumes": volumes,
        "failed": [row["fault"] for row in rows if row["status"] != "ok"],
        "unreadable": list(map(str, found.faults)),
        "skipped": list(found.skipped),
        "seconds": {
            "load_model": round(seconds.load, 4),
            "total": round(seconds.total, 4),
            "per_volume": {name: round(spent / max(volumes, 1), 4) for name, spent in seconds.parts.items()},
        },
        "device": device,
        "precision": precision,
        "versions": library_versions(),
        "machine": machine_facts(),
    }
    write_json(destination.beside(PREDICT_REPORT), report)
    described = form.tables(plan, sorted(map(Path, masks)))
    for name, text in described.items():
        _describe(destination.beside(name), text, alone=len(table) == len(rows))
    if destination.mask:
        return
    floats = (path for kind in ("probabilities", "uncertainty") for path in out.rglob(f"*_{kind}.*"))
    beside = [path.relative_to(out).as_posix() for path in floats]
    with_masks = (file.as_posix() for mask in masks for file in files_of(form, Path(mask)))
    files = {name for name in (*with_masks, *beside) if (out / name).is_file()}
    finish_artifact(
        out,
        "predictions",
        sorted({*files, *described, TABLE, PREDICT_REPORT}),
        parents=[model.artifact],
        settings=recorded_settings(settings, found, out),
        device=device,
        precision=precision,
        wall_seconds=seconds.total,
    )


def _describe(path: Path, text: str, *, alone: bool) -> None:
    """Write what describes the masks; where it said something else of masks of another call, that is said."""
    if not alone and path.is_file() and path.read_text(encoding="utf-8") != text:
        say(f"{path} now describes the masks of this call; others in its folder were made by another model.")
    write_text(path, text)
