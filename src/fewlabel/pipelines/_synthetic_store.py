"""A store of made-up slices that stands for one not prepared yet, to measure steps on a grid that may be chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewlabel.core.artifact.artifact_folder import finish_artifact
from fewlabel.core.artifact.files import write_json
from fewlabel.core.rng import numpy_stream
from fewlabel.data.catalog import Catalog
from fewlabel.data.meta_labels import edges_of, slice_table
from fewlabel.data.pixel_grid_plan import depths_of
from fewlabel.data.preprocess import Plan
from fewlabel.data.scan_inspection import CaseFacts
from fewlabel.data.scan_locations import folder_of
from fewlabel.data.store import STORE_FILES, UNLABELLED
from fewlabel.data.store_writer import Written
from fewlabel.stages.prepare import write_tables

#: Slices kept of a scan: what a step takes does not depend on how many there are.
DEPTH = 4
#: Different pictures; they repeat.
PICTURES = 16


def write_stand_in(
    folder: Path, catalog: Catalog, facts: Sequence[CaseFacts], split: Mapping[str, Any], plan: Plan
) -> Path:
    """Write a prepared folder with the subjects, metadata, labels and parts of a data set, and noise for slices.

    Args:
        folder: Where to, new.
        catalog: The data set.
        facts: Of each of its scans, all of which can be read.
        split: Its parts.
        plan: Grid and classes.

    Returns:
        The folder.
    """
    folder.mkdir(parents=True)
    depths = [min(depth, DEPTH) for depth in depths_of(facts, plan)]
    table, classes = slice_table(catalog, depths, plan.position_parts, edges_of(plan.columns))
    total = sum(depths)
    shape = (len(plan.channels), *plan.size)
    noise = numpy_stream(0, "stand-in").random((PICTURES, *shape), dtype=np.float32).astype(np.float16)
    images = np.lib.format.open_memmap(folder / "images.npy", "w+", np.float16, (total, *shape))
    labels = np.lib.format.open_memmap(folder / "labels.npy", "w+", np.uint8, (total, *plan.size))
    rings, start, written = _rings(plan.size, len(plan.label_values)), 0, []
    for case, depth in zip(catalog.cases, depths, strict=True):
        stop = start + depth
        images[start:stop] = noise[np.arange(start, stop) % PICTURES]
        labels[start:stop] = UNLABELLED if case.label is None else rings
        row = {
            "id": case.id,
            "subject": case.subject,
            "start": start,
            "stop": stop,
            "images": [str(path) for path in case.images],
            "label": None if case.label is None else str(case.label),
            "record": {},
        }
        written.append(Written(row, {}))
        start = stop
    images.flush()
    labels.flush()
    write_tables(folder, catalog, table, written, folder_of(catalog))
    write_json(folder / "plan.json", replace(plan, meta_labels=classes).record())
    write_json(folder / "split.json", dict(split))
    write_json(folder / "qc.json", {})
    finish_artifact(folder, "prepared", STORE_FILES)
    return folder


def _rings(size: tuple[int, int], classes: int) -> Any:
    """A mask (height, width) of concentric rings, one of each class, the background around them."""
    rows, columns = (np.abs(np.linspace(-1, 1, side)) for side in size)
    distance = np.hypot(rows[:, None], columns[None])
    return np.clip(np.floor((0.8 - distance) / 0.8 * (classes - 1)) + 1, 0, classes - 1).astype(np.uint8)
