"""A prepared store with further or corrected masks; everything else in it stays as it is."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewlabel.core.artifact.files import file_hash, write_json
from fewlabel.core.output_paths import as_file_name
from fewlabel.core.settings.base import path_from
from fewlabel.data.added_mask_reading import AnnotationMask
from fewlabel.data.array_saving import save_array
from fewlabel.data.io.catalog_paths import mask_suffix
from fewlabel.data.io.integer_types import in_smallest_type
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.pose_record import POSES
from fewlabel.data.preprocess import Plan, prepare_mask
from fewlabel.data.scan_locations import in_store, read_data_folder, write_data_folder
from fewlabel.data.store import UNLABELLED, PreparedStore

#: Folder of the masks as they were taken, and the record of where each is from.
MASKS, RECORD = "masks", "relabelled.json"
#: Files that masks change nothing in; the last may be missing.
_KEPT = ("images.npy", "qc.json", POSES)


def taken_masks(store: PreparedStore) -> dict[str, dict[str, str]]:
    """Case → ``file`` in the store, ``source`` and ``sha256`` of each mask that it took beside those of its data."""
    known: dict[str, dict[str, str]] = store.artifact.json(RECORD) if RECORD in store.manifest.files else {}
    return known


def untaken_masks(store: PreparedStore, masks: Mapping[str, Path]) -> dict[str, Path]:
    """Those masks that a store would take: not of the test part, and not taken yet as they are now.

    Args:
        store: The data.
        masks: Id of a scan of the store → mask.
    """
    test = set(store.split["parts"].get("test", ()))
    tested = {case.id for case in store.cases if case.subject in test}
    taken = taken_masks(store)

    def is_taken(case_id: str, path: Path) -> bool:
        try:
            return case_id in taken and taken[case_id]["sha256"] == file_hash(path)
        except OSError:
            # Who takes it is told why it cannot be read.
            return False

    return {key: path for key, path in masks.items() if key not in tested and not is_taken(key, path)}


def write_relabelled(
    store: PreparedStore, masks: Sequence[AnnotationMask], plan: Plan, folder: Path, final: Path
) -> list[str]:
    """Write the files of a store with these masks, but its manifest.

    Subjects that had no label and may be trained on come into the part ``train``. The masks are kept beside the store,
    on the grids of their scans; those that earlier rounds took stay.

    Args:
        store: The store before.
        masks: What it takes, at most one of each scan.
        plan: Of the store, with a value to ignore.
        folder: Where to; must exist.
        final: What the folder will be called.

    Returns:
        Names of the files beside those of every store.
    """
    for name in _KEPT:
        if (store.folder / name).is_file():
            _link(store.folder / name, folder / name)
    (folder / MASKS).mkdir()
    record = taken_masks(store)
    for kept in record.values():
        _link(store.folder / kept["file"], folder / kept["file"])
    labels, now = np.array(store.labels), {mask.case.id: mask for mask in masks}
    for mask in masks:
        case, name = mask.case, f"{MASKS}/{as_file_name(mask.case.id)}{mask_suffix(Path(mask.case.images[0]))}"
        labels[case.start : case.stop] = prepare_mask(mask.values, _bare(case.record), plan)
        (folder / name).unlink(missing_ok=True)
        write_mask(folder / name, in_smallest_type(mask.values), Path(case.images[0]))
        record[case.id] = {"file": name, "source": path_from(final, mask.source), "sha256": mask.digest}
    paths = {case_id: in_store(kept["file"]) for case_id, kept in record.items()}
    rows = [
        {
            **row,
            "label": paths.get(row["id"], row["label"]),
            "record": _bare(row["record"]) if row["id"] in now else row["record"],
        }
        for row in store.artifact.json("cases.json")
    ]
    if (home := read_data_folder(store.folder)) is not None:
        write_data_folder(folder, home, final)
    save_array(folder / "labels.npy", labels)
    slices = store.slices.copy()
    slices["labelled"] = (labels != UNLABELLED).any(axis=(1, 2))
    slices.to_parquet(folder / "slices.parquet", index=False)
    catalog = pd.read_parquet(io.BytesIO(store.artifact.content("catalog.parquet")))
    catalog["label"] = [row["label"] for row in rows]
    catalog.to_parquet(folder / "catalog.parquet", index=False)
    write_json(folder / "cases.json", rows)
    write_json(folder / "plan.json", {**store.plan, "ignore_value": plan.ignore_value})
    write_json(folder / "split.json", _split(store, {mask.case.subject for mask in masks}))
    write_json(folder / RECORD, record)
    return [RECORD, *(kept["file"] for kept in record.values())]


def _split(store: PreparedStore, subjects: set[str]) -> dict[str, Any]:
    """The split, with those of the subjects that may be trained on in the part ``train``."""
    parts = store.split["parts"]
    held = {*parts.get("test", ()), *parts.get("validation", ())}
    train = sorted({*parts["train"], *(subjects & set(parts["pretrain"]) - held)})
    return {**store.split, "parts": {**parts, "train": train}}


def _bare(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a scan without the slices that nobody had annotated before."""
    return {key: value for key, value in record.items() if key != "unannotated"}


def _link(source: Path, target: Path) -> None:
    """The same file at another place; a copy where the disk knows no second name. No stage writes into a file."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
