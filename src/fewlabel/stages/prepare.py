"""``prepare``: from a folder of scans to the memory-mapped store that every later stage reads."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewlabel.core.artifact.files import building, read_json, write_json
from fewlabel.core.artifact.manifest import finish_artifact, is_artifact
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say
from fewlabel.data.catalog import Catalog
from fewlabel.data.checking import CaseFacts, cores, inspect
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.data.label_values import label_map
from fewlabel.data.meta_labels import case_codes, slice_table
from fewlabel.data.orient import orient_to
from fewlabel.data.planning import PLAN_SETTINGS
from fewlabel.data.pose_record import POSES, find_poses, write_poses
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_plan import SCAN_SETTINGS, plan_scans, sized
from fewlabel.data.sources import SOURCES, read_sources, source_files, source_key
from fewlabel.data.store import STORE_FILES, UNLABELLED, PreparedStore
from fewlabel.data.store_writer import Written, store_bytes, write_store
from fewlabel.protocol.splits import make_split
from fewlabel.readers.base import read_catalog
from fewlabel.stages._prepare_settings import PrepareSettings, contradictions

__all__ = ["SETTINGS", "PrepareSettings", "run"]


SETTINGS = PrepareSettings


def run(settings: PrepareSettings) -> Path:
    """Prepare a data set, or find that nothing changed.

    Returns:
        The folder of the prepared artifact.

    Raises:
        DataError: With every faulty case and file at once.
        SettingsError: If settings contradict each other, or ``out`` is somebody else's folder.
    """
    started = time.perf_counter()
    _check_settings(settings)
    _, catalog = read_catalog(settings.data, settings.reader)
    files = source_files(catalog, settings.out)
    key = source_key(catalog, files, _key_settings(settings))
    if read_sources(settings.out).get("key") == key and is_artifact(settings.out, "prepared"):
        say(f"{settings.out} is up to date: {len(catalog.cases)} scans unchanged")
        _add_poses(settings.out)
        return settings.out
    workers = settings.workers or cores()
    collected_warnings(clear=True)
    facts = inspect(catalog, workers, settings.voxel_size)
    labels, faults = label_map(catalog, facts, settings.labels)
    faults = [fault for fact in facts for fault in fact.faults] + faults
    if faults:
        raise DataError(f"The data set {settings.data} cannot be prepared:", faults)
    split = make_split(
        catalog,
        settings.split,
        settings.seed,
        test_fraction=settings.test_fraction,
        validation_fraction=settings.validation_fraction,
        pretrain_on_test_scans=settings.pretrain_on_test_scans,
    )
    planned = plan_scans(
        catalog,
        facts,
        labels,
        split,
        scan_settings={name: getattr(settings, name) for name in SCAN_SETTINGS},
        plan_settings={name: getattr(settings, name) for name in PLAN_SETTINGS},
        workers=workers,
    )
    plan = planned.plan
    depths = depths_of(facts, plan)
    table, classes = slice_table(catalog, depths, plan.position_parts)
    plan = replace(plan, meta_labels=classes)
    _say_estimate(plan, catalog, facts, depths, workers)
    if is_artifact(settings.out, "prepared"):
        say(f"{settings.out} was made from other data or settings and is replaced; models made from it cannot use it.")
    with building(settings.out) as folder:
        written = write_store(folder, catalog.cases, depths, plan, workers, planned.unannotated)
        # Nothing can be learnt from a slice of which nothing is known.
        known = np.load(folder / "labels.npy", mmap_mode="r")
        table["labelled"] &= np.array([bool((mask != UNLABELLED).any()) for mask in known], dtype=bool)
        write_tables(folder, catalog, table, written)
        write_json(folder / "plan.json", plan.record())
        write_json(folder / "split.json", split)
        write_json(folder / "qc.json", _quality(catalog, facts, written, split, planned.notes))
        write_json(folder / SOURCES, {"key": key, "files": files})
        finish_artifact(
            folder,
            "prepared",
            STORE_FILES,
            final_folder=settings.out,
            settings=settings.record(),
            seed=settings.seed,
            threads=workers,
            wall_seconds=time.perf_counter() - started,
        )
        poses = write_poses(PreparedStore(folder), folder)
        say(f"In the plane, {poses.sentence('mm' if sized(facts) else 'pixels')}.")
    for line in read_json(settings.out / "qc.json")["notes"]:
        say(line)
    return settings.out


def _add_poses(out: Path) -> None:
    """Give a store of an earlier version its ``pose.json``; nothing else in it changes.

    Where it cannot be written, as in a store that is read-only, that is said: the store is as good as it was.
    """
    if (out / POSES).is_file():
        return
    store = PreparedStore(out)
    poses = find_poses(store)
    known = all(case.record.get("spacing_known", True) for case in store.cases)
    say(f"In the plane, {poses.sentence('mm' if known else 'pixels')}.")
    try:
        write_json(out / POSES, poses.record())
    except OSError as error:
        why = error.strerror or str(error)
        say(f"{POSES} cannot be written to {out} ({why}): fine-tuning will not know how the scans lie.")


def _check_settings(settings: PrepareSettings) -> None:
    faults = contradictions(dict(settings))
    out = settings.out
    # A store that lost a file is still ours to replace; a folder without its sources is not.
    obstacle = path_conflict(out)
    if obstacle and not (out / SOURCES).is_file():
        problem, remedy = conflict_sentence(out, obstacle), "Give another --out"
        if obstacle == "other files":
            problem = f"{out} is neither empty nor a prepared folder"
        faults.append(Fault(problem, remedy=remedy))
    if faults:
        raise SettingsError("These settings are not valid:", faults)


def _key_settings(settings: PrepareSettings) -> dict[str, Any]:
    record = settings.record()
    for name in ("data", "out", "workers"):
        del record[name]
    for name in SCAN_SETTINGS:
        # A store of before these settings has the key of their defaults.
        if record[name] == PrepareSettings.model_fields[name].default:
            del record[name]
    split = Path(settings.split)
    if settings.split.lower().endswith(".json") and split.is_file():
        record["split_content"] = split.read_text()
    return record


def depths_of(facts: Sequence[CaseFacts], plan: Plan) -> list[int]:
    """Slices of each scan, in catalog order; scans that cannot be read are left out."""
    return [
        fact.geometry.shape[orient_to(fact.geometry, _frame(plan), plan.slice_axis).axes[0]]
        for fact in facts
        if fact.geometry is not None
    ]


def _frame(plan: Plan) -> Any:
    import numpy as np

    return np.asarray(plan.frame)


def _say_estimate(plan: Plan, catalog: Catalog, facts: list[CaseFacts], depths: list[int], workers: int) -> None:
    disk = store_bytes(sum(depths), len(plan.channels), plan.size) / 2**20
    prepared = max(depths, default=0) * plan.size[0] * plan.size[1]
    voxels = max(prepared, *(_voxels(fact) for fact in facts))
    # Bytes per voxel of the largest volume, per worker: measured with tracemalloc, masks with two classes.
    memory = workers * (32 + 12 * len(plan.channels)) * voxels / 2**20
    unit = "mm" if sized(facts) else "of the files' pixels"
    grid = f"{plan.size[0]}x{plan.size[1]} pixels of {plan.spacing[0]:.4g}x{plan.spacing[1]:.4g} {unit}"
    say(
        f"{len(catalog.cases)} scans of {len(catalog.subjects)} subjects, {sum(depths)} slices at {grid}: "
        f"about {disk:.0f} MB on disk, {memory:.0f} MB of memory"
    )


def _voxels(fact: CaseFacts) -> int:
    if fact.geometry is None:
        return 0
    z, y, x = fact.geometry.shape
    return z * y * x


def write_tables(folder: Path, catalog: Catalog, table: dict[str, Any], written: Sequence[Written]) -> None:
    """Write ``slices.parquet``, ``catalog.parquet`` and ``cases.json``.

    Args:
        folder: Of the store.
        catalog: The data set.
        table: Columns of the slice table.
        written: What each scan left, in catalog order.
    """
    import pandas as pd

    pd.DataFrame(table).to_parquet(folder / "slices.parquet", index=False)
    rows = [
        {
            "case": case.id,
            "subject": case.subject,
            "part": case.part,
            "images": [str(path) for path in case.images],
            "label": None if case.label is None else str(case.label),
            **{column.name: case.metadata.get(column.name) for column in catalog.columns},
        }
        for case in catalog.cases
    ]
    pd.DataFrame(rows).to_parquet(folder / "catalog.parquet", index=False)
    write_json(folder / "cases.json", [result.case for result in written])


def _padded(written: Sequence[Written]) -> list[str]:
    """A sentence on scans that are padded, if there are any."""
    found = [values for result in written for values in result.case["record"].get("padding", ()) if values]
    if not found:
        return []
    shown = ", ".join(f"{value:g}" for value in sorted({value for values in found for value in values}))
    return [f"padding of {shown} is left out of the intensities of {len(found)} images"]


def _quality(
    catalog: Catalog,
    facts: list[CaseFacts],
    written: list[Written],
    split: dict[str, Any],
    planned: Sequence[str],
) -> dict[str, Any]:
    cases = []
    notes = [f"split {split['name']}: {note}" for note in split.get("notes", ())]
    notes = [*catalog.notes, *notes, *planned, *_padded(written), *case_codes(catalog)[2]]
    for fact, result in zip(facts, written, strict=True):
        row = {**result.quality, "odd": [*fact.odd, *result.quality["odd"]]}
        cases.append(row)
    odd = [f"{row['id']}: {text}" for row in cases for text in row["odd"]]
    notes.extend(odd[:10])
    if len(odd) > 10:
        notes.append(f"… and {len(odd) - 10} more odd facts in qc.json")
    warnings = {text: list(paths) for text, paths in collected_warnings().items()}
    notes.extend(f"{len(paths)} files: {text}" for text, paths in warnings.items())
    return {"cases": cases, "warnings": warnings, "notes": notes}
