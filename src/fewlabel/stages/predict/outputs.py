"""What ``predict`` leaves: masks, probabilities, maps of uncertainty, a table and a report."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fewlabel.core.artifact.files import write_json, write_text
from fewlabel.core.artifact.manifest import finish_artifact
from fewlabel.core.provenance import library_versions, machine_facts
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.geometry import Volume
from fewlabel.data.io.mask_writing import in_smallest_type, write_map, write_mask, write_probabilities
from fewlabel.data.preprocess import Plan
from fewlabel.engine.runtime import resolved_precision
from fewlabel.scoring.voxel_uncertainty import ENTROPY, MUTUAL_INFORMATION
from fewlabel.stages._postprocess import KEY as POSTPROCESS
from fewlabel.stages._segmenter import Segmenter
from fewlabel.stages.predict.inputs import Found
from fewlabel.stages.predict.names import Scan
from fewlabel.stages.predict.places import Destination
from fewlabel.stages.predict.settings import PredictSettings

TABLE = "predictions.csv"
REPORT = "run_report.json"
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


def write_masks(out: Path, scan: Scan, masks: Sequence[Mask], plan: Plan) -> None:
    """Write the mask in raw label values, 4D for a cine, and its probabilities and uncertainty if there are any."""
    lookup = in_smallest_type(np.array(plan.label_values))
    raw = lookup[np.stack([mask.classes for mask in masks])]
    target = out / scan.output
    write_mask(target, raw if len(masks) > 1 else raw[0], scan.images[0])
    for number, mask in enumerate(masks, start=1):
        frame = number if len(masks) > 1 else None
        if mask.probabilities is not None:
            write_probabilities(_beside(target, "probabilities", frame), mask.probabilities, scan.images[0])
        if mask.uncertainty is not None:
            write_map(_beside(target, "uncertainty", frame), mask.uncertainty, scan.images[0])


def outputs(mask: Path, *, probabilities: bool, uncertainty: bool) -> list[Path]:
    """A mask and what goes beside it."""
    asked = {"probabilities": probabilities, "uncertainty": uncertainty}
    return [mask, *(_beside(mask, kind) for kind, wanted in asked.items() if wanted)]


def _beside(mask: Path, kind: str, frame: int | None = None) -> Path:
    """Where float32 values that belong to a mask go, or to one frame of it, from 1."""
    stem = scan_stem(mask)
    suffix = mask.name[len(stem) :]
    # Picture formats hold no float32.
    suffix = suffix if suffix in {*_NIFTI, ".nrrd", ".mha"} else ".nii.gz"
    number = "" if frame is None else f"_frame{frame:02d}"
    return mask.with_name(f"{stem}{number}_{kind}{suffix}")


def millilitres(classes: NDArray[np.uint8], volume: Volume, plan: Plan) -> dict[str, float]:
    """Volume of every class but the background, as columns of the table."""
    counts = np.bincount(classes.ravel(), minlength=len(plan.label_names))
    voxel = float(np.prod(volume.spacing)) / 1000.0
    return {
        f"ml_{name}": round(float(counts[index]) * voxel, 4) for index, name in enumerate(plan.label_names) if index
    }


def voxels(classes: NDArray[np.uint8], volume: Volume, plan: Plan) -> dict[str, int]:  # noqa: ARG001
    """Voxels of every class but the background, as columns of the table, where nobody knows how large they are."""
    counts = np.bincount(classes.ravel(), minlength=len(plan.label_names))
    return {f"voxels_{name}": int(counts[index]) for index, name in enumerate(plan.label_names) if index}


def _with_earlier(before: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of earlier calls that are still true, then those of this one.

    A mask that was made again, and a failure of a scan that was tried again, have new rows. The row of a mask that is
    still there stays where its scan failed this time.
    """
    again = before["output"].isin(table.loc[table["status"] == "ok", "output"])
    retried = (before["status"] != "ok") & before["input"].isin(table["input"])
    before = before[~again & ~retried]
    return pd.concat([before, table]) if len(before) else table


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


def record_predictions(
    settings: PredictSettings,
    destination: Destination,
    model: Segmenter,
    rows: Sequence[Mapping[str, Any]],
    found: Found,
    seconds: Seconds,
    device: str,
) -> None:
    """Table, report and, of a folder, manifest; there rows of earlier calls stay unless their mask was made again."""
    out, plan, precision = destination.folder, model.plan, resolved_precision(settings.precision, device)
    volumes = sum(row["status"] == "ok" for row in rows)
    table = pd.DataFrame(rows)
    if not destination.mask and (out / TABLE).is_file():
        table = _with_earlier(pd.read_csv(io.BytesIO((out / TABLE).read_bytes())), table)
    table = table.sort_values(["input"], kind="stable")
    write_text(destination.beside(TABLE), table.to_csv(index=False))
    report = {
        "settings": settings.record(),
        "model": {"folder": str(model.folder), "content_hash": model.content_hash, "members": len(model.networks)},
        "uncertainty": (MUTUAL_INFORMATION if len(model.networks) > 1 else ENTROPY) if settings.uncertainty else "",
        "postprocess": model.facts.get(POSTPROCESS) if settings.postprocess else None,
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
    write_json(destination.beside(REPORT), report)
    if destination.mask:
        return
    masks = table.loc[table["status"] == "ok", "output"].unique()
    floats = (path for kind in ("probabilities", "uncertainty") for path in out.rglob(f"*_{kind}.*"))
    beside = [path.relative_to(out).as_posix() for path in floats]
    files = {name for name in (*masks, *beside) if (out / name).is_file()}
    finish_artifact(
        out,
        "predictions",
        sorted({*files, TABLE, REPORT}),
        parents=[model.artifact],
        settings=settings.record(),
        device=device,
        precision=precision,
        wall_seconds=seconds.total,
    )
