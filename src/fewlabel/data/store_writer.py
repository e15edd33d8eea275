"""Writes the slices of a data set straight into preallocated ``.npy`` files, volume by volume, in parallel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewlabel.core.errors import DataError, Fault, FewlabelError, is_disk_full
from fewlabel.core.progress import task
from fewlabel.data.catalog import Case
from fewlabel.data.io.volume_reading import read_mask, read_volume
from fewlabel.data.preallocated_arrays import let_go, reserved_arrays
from fewlabel.data.preprocess import Plan, ScanPreparation, prepare_mask
from fewlabel.data.scan_inspection import in_threads
from fewlabel.data.scan_locations import below
from fewlabel.data.store import UNLABELLED
from fewlabel.data.unexpected_errors import unforeseen_fault
from fewlabel.data.voxel_counts import value_counts

_PERCENTILES = (1, 25, 50, 75, 99)
_SAMPLE = 1 << 16


@dataclass(frozen=True)
class Written:
    """What one volume left: its row of ``cases.json``, its row of ``qc.json``, or its faults."""

    case: dict[str, Any]
    quality: dict[str, Any]
    faults: tuple[Fault, ...] = ()


def store_bytes(slices: int, channels: int, size: Sequence[int]) -> int:
    """Disk space of ``images.npy`` and ``labels.npy``, in bytes."""
    return slices * size[0] * size[1] * (2 * channels + 1)


def write_store(
    folder: Path,
    cases: Sequence[Case],
    depths: Sequence[int],
    plan: Plan,
    workers: int,
    unannotated: Mapping[str, Sequence[int]] | None = None,
    *,
    home: Path,
) -> list[Written]:
    """Prepare all volumes into ``folder``.

    Args:
        folder: Where ``images.npy`` and ``labels.npy`` are made.
        cases: In store order.
        depths: Slices of each case.
        plan: What is done to each.
        workers: Threads; each holds one volume at a time.
        unannotated: Case → slices of its mask, along the file axis across slices, that nobody annotated.
        home: Folder below which scans are named.

    Raises:
        FewlabelError: If there is no room for the arrays on the disk; nothing is written then.
        DataError: After all volumes were tried, naming every case and file that failed.
    """
    starts = np.concatenate([[0], np.cumsum(depths)]).astype(int)
    total = int(starts[-1])
    shape = (total, len(plan.channels), *plan.size)
    wanted = {"images.npy": (np.float16, shape), "labels.npy": (np.uint8, (total, *plan.size))}
    images, labels = reserved_arrays(folder, wanted)

    def write(index: int) -> Written:
        case, start, stop = cases[index], int(starts[index]), int(starts[index + 1])
        row: dict[str, Any] = {
            "id": case.id,
            "subject": case.subject,
            "start": start,
            "stop": stop,
            "images": [below(path, home) for path in case.images],
            "label": None if case.label is None else below(case.label, home),
        }
        try:
            left_out = (unannotated or {}).get(case.id, ())
            return _write_case(case, row, plan, images[start:stop], labels[start:stop], left_out)
        except FewlabelError as error:
            faults = error.faults or (Fault(error.message),)
            named = (replace(fault, where=f"case {case.id}, {fault.where or case.images[0]}") for fault in faults)
            return Written(row, {}, tuple(named))
        except Exception as error:
            if is_disk_full(error) or isinstance(error, MemoryError):
                raise
            return Written(
                row, {}, (unforeseen_fault(error, f"case {case.id}, {case.images[0]}", "cannot be prepared"),)
            )

    done = []
    with task("prepare", len(cases)) as bar:
        for result in in_threads(write, range(len(cases)), workers):
            done.append(result)
            for array in (images, labels):
                let_go(array)
            bar.advance(note=result.case["id"])
    faults = [fault for result in done for fault in result.faults]
    if faults:
        raise DataError(f"{sum(bool(result.faults) for result in done)} scans cannot be prepared:", faults)
    images.flush()
    labels.flush()
    return done


def _write_case(
    case: Case, row: dict[str, Any], plan: Plan, images: Any, labels: Any, unannotated: Sequence[int]
) -> Written:
    volume = read_volume(case.images)
    preparation = ScanPreparation(volume, plan)
    record, geometry = preparation.record, volume.geometry
    for at, slab in preparation.slabs():
        images[at] = slab.transpose(1, 0, 2, 3)
    if unannotated:
        record["unannotated"] = list(unannotated)
    quality: dict[str, Any] = {
        "id": case.id,
        "shape": list(geometry.shape),
        "spacing": record["spacing"],
        "intensities": [_percentiles(channel) for channel in volume.array],
        "odd": [],
    }
    if any(low >= high for low, high in record["percentiles"]):
        quality["odd"].append("an image channel is constant between its percentiles")
    if not all(np.isfinite(plane).all() for channel in volume.array for plane in channel):
        quality["odd"].append("voxels that are not finite were set to the lowest intensity")
    # The mask is read when the scan is not needed any more.
    del volume, preparation
    if case.label is None:
        labels[:] = UNLABELLED
    else:
        mask = read_mask(case.label, grid=geometry)
        labels[:] = prepare_mask(mask, record, plan)
        counts = value_counts(mask)
        known = record.get("spacing_known", True)
        voxel = float(np.prod(record["spacing"])) / 1000 if known else 1
        aliases: dict[int, list[int]] = {}
        for raw, value in plan.label_aliases.items():
            aliases.setdefault(value, []).append(raw)
        quality["label_ml" if known else "label_voxels"] = {
            name: round(sum(counts.get(raw, 0) for raw in (value, *aliases.get(value, ()))) * voxel, 3)
            for value, name in list(zip(plan.label_values, plan.label_names, strict=True))[1:]
        }
    cut = _foreground_lost(record, labels, quality, plan)
    if cut:
        quality["odd"].append(cut)
    return Written({**row, "record": record}, quality)


def _foreground_lost(record: dict[str, Any], labels: Any, quality: dict[str, Any], plan: Plan) -> str:
    # Compared in ml, because the pixel size changed; a tenth is more than resampling alone can take.
    unit = 1 if "label_voxels" in quality else 1000
    whole = sum(quality.get("label_voxels", quality.get("label_ml", {})).values())
    if whole <= 0 or "unannotated" in record:
        return ""
    axis = record["axes"][0]
    kept = sum(int(((plane > 0) & (plane != UNLABELLED)).sum()) for plane in labels)
    millilitres = kept * plan.spacing[0] * plan.spacing[1] * record["spacing"][axis] / unit
    lost = 1 - millilitres / whole
    return f"{lost:.0%} of the labelled volume lies outside the crop" if lost > 0.1 else ""


def _percentiles(channel: Any) -> dict[str, float]:
    # An even sample is enough to look at, and a tenth of the time.
    flat = channel.reshape(-1)
    if not all(np.isfinite(plane).all() for plane in channel):
        flat = flat[np.isfinite(flat)]
    values = np.percentile(flat[:: max(1, flat.size // _SAMPLE)], _PERCENTILES)
    return {str(key): round(float(value), 4) for key, value in zip(_PERCENTILES, values, strict=True)}
