"""``prepare``: from a folder of scans to the memory-mapped store that every later stage reads."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewlabel.core.artifact.artifact_folder import Artifact, finish_artifact, is_artifact
from fewlabel.core.artifact.files import building, read_json, write_json
from fewlabel.core.errors import ArtifactError, DataError, Fault, SettingsError, reason
from fewlabel.core.output_paths import conflict_sentence, path_conflict
from fewlabel.core.progress import say
from fewlabel.data.catalog import Catalog
from fewlabel.data.dataset_plan import sized
from fewlabel.data.io.itk_log import collected_warnings
from fewlabel.data.meta_labels import case_codes, edges_of, slice_table
from fewlabel.data.pixel_grid_plan import depths_of
from fewlabel.data.pose_record import POSES, find_poses, write_poses
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_inspection import CaseFacts, cores
from fewlabel.data.scan_locations import (
    DATA_FOLDER,
    below,
    folder_of,
    read_data_folder,
    without_folder,
    write_data_folder,
)
from fewlabel.data.source_fingerprint import SOURCES, read_sources, source_files, source_key
from fewlabel.data.store import STORE_FILES, UNLABELLED, PreparedStore
from fewlabel.data.store_writer import Written, store_bytes, write_store
from fewlabel.readers.base import read_catalog
from fewlabel.stages.prepare.checking import CheckReport, check, look_at, plan_of, scan_plan_of, split_of
from fewlabel.stages.prepare.settings import LATER, PrepareSettings

__all__ = ["SETTINGS", "CheckReport", "PrepareSettings", "check", "depths_of", "plan_of", "run", "write_tables"]

SETTINGS = PrepareSettings
#: Bytes that slabs take and the allocator keeps, of one thread.
_KEPT = 60 << 20


def run(settings: PrepareSettings) -> Path:
    """Prepare a data set, or find that nothing changed.

    Returns:
        The folder of the prepared artifact.

    Raises:
        DataError: With every faulty case and file at once.
        SettingsError: If there is no such split, or ``out`` is somebody else's folder.
    """
    started = time.perf_counter()
    _check_out(settings.out)
    choice, catalog = read_catalog(settings.data, settings.reader, settings.subject_names, settings.colours)
    home = folder_of(catalog)
    files = source_files(catalog, settings.out, home)
    key = source_key(catalog, files, _key_settings(settings), home)
    # A store of before has absolute paths, in its key as well.
    keys = {key, source_key(catalog, files, _key_settings(settings))}
    if read_sources(settings.out).get("key") in keys and _is_whole(settings.out):
        say(f"{settings.out} is up to date: {len(catalog.cases)} scans unchanged")
        _add_poses(settings.out)
        _find_again(settings.out, home)
        return settings.out
    if read_sources(settings.out).get("key") not in keys:
        _refuse_to_replace(settings.out)
    workers = settings.workers or cores()
    collected_warnings(clear=True)
    seen = look_at(settings, catalog, workers)
    if seen.faults:
        raise DataError(f"The data set {settings.data} cannot be prepared:", seen.faults)
    catalog = choice.reader.settle(catalog)
    facts = seen.facts
    split = split_of(settings, catalog)
    planned = scan_plan_of(settings, catalog, facts, seen.labels, split, workers)
    depths = depths_of(facts, planned.plan)
    table, classes = slice_table(catalog, depths, planned.plan.position_parts, edges_of(planned.plan.columns))
    plan = replace(planned.plan, meta_labels=classes)
    _say_estimate(plan, catalog, facts, depths, workers)
    if is_artifact(settings.out, "prepared"):
        say(f"{settings.out} was made from other data or settings and is replaced; models made from it cannot use it.")
    with building(settings.out) as folder:
        written = write_store(folder, catalog.cases, depths, plan, workers, planned.unannotated, home=home)
        # Nothing can be learnt from a slice of which nothing is known.
        known = np.load(folder / "labels.npy", mmap_mode="r")
        table["labelled"] &= np.array([bool((mask != UNLABELLED).any()) for mask in known], dtype=bool)
        write_tables(folder, catalog, table, written, home)
        write_json(folder / "plan.json", plan.record())
        write_json(folder / "split.json", split)
        quality = _quality(catalog, facts, written, split, (*seen.notes, *planned.notes))
        write_json(folder / "qc.json", without_folder(quality, home))
        write_json(folder / SOURCES, {"key": key, "files": {below(name, home): facts for name, facts in files.items()}})
        write_data_folder(folder, home, settings.out)
        finish_artifact(
            folder,
            "prepared",
            STORE_FILES,
            final_folder=settings.out,
            settings=settings.record(settings.out),
            seed=settings.seed,
            threads=workers,
            wall_seconds=time.perf_counter() - started,
        )
        poses = write_poses(PreparedStore(folder), folder)
        say(f"In the plane, {poses.sentence('mm' if sized(facts) else 'pixels')}.")
    for line in read_json(settings.out / "qc.json")["notes"]:
        say(line)
    return settings.out


def _refuse_to_replace(out: Path) -> None:
    """Keep a store that networks beside it, as those of a run, were made from: without it they are worth nothing.

    Raises:
        SettingsError: If there are any.
    """
    if (store := Artifact.find(out, "prepared")) is None:
        return
    made = [path.name for path in sorted(out.resolve().parent.iterdir()) if _made_from(path, store)]
    if made:
        problem = f"{out} was made from other data or settings, and {', '.join(made)} beside it from what it holds"
        raise SettingsError("Nothing was written:", [Fault(problem, remedy=_APART)])


_APART = "Repeat its words, or give another --out; of a run: fewlabel train DATA --out RUN --resume"


def _made_from(folder: Path, store: Artifact) -> bool:
    kinds = ("encoder", "segmenter")
    made = next((found for kind in kinds if (found := Artifact.find(folder, kind)) is not None), None)
    return made is not None and any(parent.content_hash == store.content_hash for parent in made.manifest.parents)


def _is_whole(out: Path) -> bool:
    """Whether a finished store lies there, its arrays as they were made; that they are not is said."""
    if (artifact := Artifact.find(out, "prepared")) is None:
        return False
    try:
        store = PreparedStore(artifact)
        return len(store.labels) == len(store.images)
    except ArtifactError as error:
        say(f"{error.faults[0].problem}: it is made again.")
        return False


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


def _find_again(out: Path, home: Path) -> None:
    """Note that the scans of a store have moved; where it cannot be written, that is said."""
    before = read_data_folder(out)
    if before is None or os.path.realpath(before) == os.path.realpath(home):
        return
    try:
        write_data_folder(out, home)
    except OSError as error:
        say(f"{DATA_FOLDER} cannot be written to {out} ({reason(error)}): the store looks for its scans in {before}.")
        return
    say(f"The scans of {out} have moved to {home}; that is noted.")


def _check_out(out: Path) -> None:
    # A store that lost a file is still ours to replace; a folder without its sources is not.
    obstacle = path_conflict(out)
    if not obstacle or (out / SOURCES).is_file():
        return
    problem = conflict_sentence(out, obstacle)
    if obstacle == "other files":
        problem = f"{out} is neither empty nor a prepared folder"
    raise SettingsError("These settings are not valid:", [Fault(problem, remedy="Give another --out")])


def _key_settings(settings: PrepareSettings) -> dict[str, Any]:
    record = settings.record()
    for name in ("data", "out", "workers"):
        del record[name]
    for name in LATER:
        # A store of before these settings has the key of their defaults.
        if record[name] == PrepareSettings.model_fields[name].default:
            del record[name]
    split = Path(settings.split)
    if settings.split.lower().endswith(".json") and split.is_file():
        record["split_content"] = split.read_text()
    return record


def _say_estimate(plan: Plan, catalog: Catalog, facts: Sequence[CaseFacts], depths: list[int], workers: int) -> None:
    disk = store_bytes(sum(depths), len(plan.channels), plan.size) / 2**20
    memory = workers * scan_memory(facts, depths, plan) / 2**20
    unit = "mm" if sized(facts) else "of the files' pixels"
    grid = f"{plan.size[0]}x{plan.size[1]} pixels of {plan.spacing[0]:.4g}x{plan.spacing[1]:.4g} {unit}"
    say(
        f"{len(catalog.cases)} scans of {len(catalog.subjects)} subjects, {sum(depths)} slices at {grid}: "
        f"about {disk:.0f} MB on disk, {memory:.0f} MB of memory"
    )


def scan_memory(facts: Sequence[CaseFacts], depths: Sequence[int], plan: Plan) -> int:
    """Bytes that one thread takes for the largest scan, above what the program itself takes.

    They are the scan as float32 together with its numbers of two bytes in the file, or with what is written of it, two
    bytes for a voxel of an image and one for one of the mask; and what slabs take and the allocator keeps
    (``benchmarks/run.py --suite memory``).

    Args:
        facts: Of each scan.
        depths: Slices of each when prepared.
        plan: What is done to them.
    """
    channels, most = len(plan.channels), 0
    for fact, depth in zip(facts, depths, strict=True):
        voxels = 0 if fact.geometry is None else math.prod(fact.geometry.shape)
        written = depth * plan.size[0] * plan.size[1] * (2 * channels + 1)
        most = max(most, channels * voxels * 4 + max(channels * voxels * 2, written))
    return most + _KEPT


def write_tables(folder: Path, catalog: Catalog, table: dict[str, Any], written: Sequence[Written], home: Path) -> None:
    """Write ``slices.parquet``, ``catalog.parquet`` and ``cases.json``.

    Args:
        folder: Of the store.
        catalog: The data set.
        table: Columns of the slice table.
        written: What each scan left, in catalog order.
        home: Folder below which scans are named.
    """
    pd.DataFrame(table).to_parquet(folder / "slices.parquet", index=False)
    rows = [
        {
            "case": case.id,
            "subject": case.subject,
            "part": case.part,
            "images": [below(path, home) for path in case.images],
            "label": None if case.label is None else below(case.label, home),
            **{column.name: case.metadata.get(column.name) for column in catalog.columns},
        }
        for case in catalog.cases
    ]
    pd.DataFrame(rows).to_parquet(folder / "catalog.parquet", index=False)
    write_json(folder / "cases.json", [result.case for result in written])


def _padded(written: Sequence[Written]) -> list[str]:
    """A sentence on scans that are padded, if there are any."""
    padding = [values for result in written for values in result.case["record"].get("padding", ()) if values]
    if not padding:
        return []
    shown = ", ".join(f"{value:g}" for value in sorted({value for values in padding for value in values}))
    return [f"padding of {shown} is left out of the intensities of {len(padding)} images"]


def _quality(
    catalog: Catalog, facts: Sequence[CaseFacts], written: list[Written], split: dict[str, Any], more: Sequence[str]
) -> dict[str, Any]:
    cases = []
    notes = [f"split {split['name']}: {note}" for note in split.get("notes", ())]
    notes = [*catalog.notes, *notes, *more, *_padded(written), *case_codes(catalog)[2]]
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
