"""One store out of several: their slices side by side, their subjects and classes kept apart."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fewlabel.core.artifact.files import write_json
from fewlabel.core.errors import DataError, Fault
from fewlabel.data.preallocated_arrays import reserved_arrays
from fewlabel.data.scan_locations import below, holding, write_data_folder
from fewlabel.data.store import UNLABELLED, PreparedCase, PreparedStore

#: What must be equal for masks to be kept, and its key in the plan.
_SAME = (
    ("the names of classes", "label_names"),
    ("the values in label files", "label_values"),
    ("the value that is ignored", "ignore_value"),
    ("pixel spacing", "spacing"),
)


def merge_stores(stores: Sequence[PreparedStore], folder: Path) -> None:
    """Write the files of a merged store, but its manifest.

    Ids of subjects, scans and classes are namespaced by data set: anatomy differs, so the first patient or the lowest
    slices of one set are no positives of another's (GCL, merged data sets; namespacing is our choice). A meta label
    that a data set lacks is missing for its slices. Masks are kept if all sets have the same classes, values in their
    label files and pixel spacing, so that one network can learn from them and scores are in true millimetres.

    Args:
        stores: Two or more prepared stores.
        folder: Where to write; must exist.

    Raises:
        DataError: If there are fewer than two stores, they differ in size or number of channels, or two hold one scan.
    """
    _check(stores)
    names = _names(stores)
    differ = [word for word, key in _SAME if any(store.plan.get(key) != stores[0].plan.get(key) for store in stores)]
    keep_masks = not differ
    classes: dict[str, int] = {}
    tables, catalogs, cases = [], [], []
    start = 0
    for name, store in zip(names, stores, strict=True):
        table = store.slices.copy()
        table["case"], table["subject"] = name + ":" + table["case"], name + ":" + table["subject"]
        table["labelled"] &= keep_masks
        for label, count in store.meta_labels.items():
            codes = table[f"meta_{label}"]
            table[f"meta_{label}"] = codes.where(codes < 0, codes + classes.get(label, 0))
            classes[label] = classes.get(label, 0) + count
        tables.append(table)
        catalogs.append(pd.read_parquet(io.BytesIO(store.artifact.content("catalog.parquet"))).assign(dataset=name))
        for case in store.cases:
            named = replace(case, id=f"{name}:{case.id}", subject=f"{name}:{case.subject}")
            placed = replace(named, start=case.start + start, stop=case.stop + start)
            cases.append(placed if keep_masks else replace(placed, label=None))
        start += len(table)
    slices = pd.concat(tables, ignore_index=True)
    for label in classes:
        slices[f"meta_{label}"] = slices[f"meta_{label}"].fillna(-1).astype("int64")
    slices.to_parquet(folder / "slices.parquet", index=False)
    rows = _named_below(cases, folder)
    catalog = pd.concat(catalogs, ignore_index=True)
    catalog["images"], catalog["label"] = [row["images"] for row in rows], [row["label"] for row in rows]
    catalog.to_parquet(folder / "catalog.parquet", index=False)
    write_json(folder / "cases.json", rows)
    write_json(folder / "plan.json", _plan(stores, names, classes, keep_masks=keep_masks))
    write_json(folder / "split.json", _split(stores, names))
    notes = [] if keep_masks else [f"masks are left out: the data sets differ in {' and '.join(differ)}"]
    write_json(folder / "qc.json", {"cases": [], "warnings": {}, "notes": notes})
    _copy_arrays(stores, folder, start, keep_masks=keep_masks)


def _named_below(cases: Sequence[PreparedCase], folder: Path) -> list[dict[str, Any]]:
    """Rows of ``cases.json`` with the scans below the folder that holds those of all data sets, which is noted."""
    placed = [path for case in cases for path in (*case.images, case.label) if path and Path(path).is_absolute()]
    if not placed:
        return [vars(case) for case in cases]
    home = holding(placed)
    write_data_folder(folder, home)

    def named(path: str) -> str:
        return below(path, home) if Path(path).is_absolute() else path

    return [
        {
            **vars(case),
            "images": [named(path) for path in case.images],
            "label": None if case.label is None else named(case.label),
        }
        for case in cases
    ]


def _check(stores: Sequence[PreparedStore]) -> None:
    faults = []
    if len(stores) < 2:
        faults.append(Fault(f"a merge needs at least two prepared folders, not {len(stores)}", "data", "Add one"))
    for store in stores[1:]:
        shape, first = store.images.shape[1:], stores[0].images.shape[1:]
        if shape != first:
            problem = f"{store.folder} has shape {shape}, but {stores[0].folder} has {first} (channels, height, width)"
            faults.append(Fault(problem, remedy="Prepare it with the same size"))
    if not faults:
        faults = _shared_scans(stores)
    if faults:
        raise DataError("These stores cannot be merged:", faults)


def _shared_scans(stores: Sequence[PreparedStore]) -> list[Fault]:
    """A fault per pair of stores that hold the same scans: one could test what the other trains on."""
    faults = []
    known: dict[str, tuple[PreparedStore, str]] = {}
    for store in stores:
        shared: dict[Path, list[str]] = {}
        marks = {mark: case.id for case in store.cases for mark in _marks(store, case)}
        for mark, case in marks.items():
            if mark in known:
                shared.setdefault(known[mark][0].folder, []).append(case)
        for folder, cases in shared.items():
            scans = sorted(set(cases))
            shown = f"{', '.join(scans[:5])}{', ...' if len(scans) > 5 else ''}"
            count = "1 scan" if len(scans) == 1 else f"{len(scans)} scans"
            problem = f"{store.folder} and {folder} share {count} ({shown}), so a subject could train and test"
            faults.append(Fault(problem, remedy="Prepare each without the scans of the other"))
        known.update({mark: (store, case) for mark, case in marks.items() if mark not in known})
    return faults


def _marks(store: PreparedStore, case: PreparedCase) -> list[str]:
    """What identifies a scan: its files, and its pixels."""
    pixels = np.ascontiguousarray(store.images[case.start : case.stop])
    files = [os.path.realpath(path) for path in case.images if Path(path).is_absolute()]
    return [*files, blake2b(pixels.data, digest_size=16).hexdigest()]


def _names(stores: Sequence[PreparedStore]) -> list[str]:
    """Data set names, numbered where two are equal."""
    plain = [str(store.plan.get("dataset", store.folder.name)) for store in stores]
    return [name if plain.count(name) == 1 else f"{name}{plain[:at].count(name) + 1}" for at, name in enumerate(plain)]


def _plan(
    stores: Sequence[PreparedStore], names: Sequence[str], classes: dict[str, int], *, keep_masks: bool
) -> dict[str, Any]:
    first = stores[0].plan
    labels = first["label_names"] if keep_masks else {"0": "background"}
    values = first["label_values"] if keep_masks else [0]
    aliases = {raw: value for store in stores for raw, value in store.plan.get("label_aliases", {}).items()}
    columns = {column["name"]: column for store in stores for column in store.plan.get("columns", [])}
    merged = {name: store.plan["spacing"] for name, store in zip(names, stores, strict=True)}
    return {
        **first,
        "dataset": "+".join(names),
        "reader": "merge",
        "meta_labels": classes,
        "label_names": labels,
        "label_values": values,
        "label_aliases": aliases if keep_masks else {},
        "columns": list(columns.values()),
        "merged": merged,
    }


def _split(stores: Sequence[PreparedStore], names: Sequence[str]) -> dict[str, Any]:
    parts: dict[str, list[str]] = {}
    for name, store in zip(names, stores, strict=True):
        for part, subjects in store.split["parts"].items():
            parts.setdefault(part, []).extend(f"{name}:{subject}" for subject in subjects)
    return {"name": "merged", "parts": parts, "draws": {}, "seed": 0, "notes": []}


def _copy_arrays(stores: Sequence[PreparedStore], folder: Path, slices: int, *, keep_masks: bool) -> None:
    """Copy slices store by store into memory-mapped files."""
    shape = stores[0].images.shape
    wanted = {"images.npy": (np.float16, (slices, *shape[1:])), "labels.npy": (np.uint8, (slices, *shape[2:]))}
    images, labels = reserved_arrays(folder, wanted)
    start = 0
    for store in stores:
        stop = start + len(store.images)
        images[start:stop] = store.images
        labels[start:stop] = store.labels if keep_masks else UNLABELLED
        start = stop
    images.flush()
    labels.flush()
