"""A mask that somebody has just drawn, put where ``learn`` takes it from.

The mask that it takes the place of is kept, and who saved what when is written down, beside it and nowhere else.
"""

from __future__ import annotations

import getpass
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact.files import append_line
from fewlabel.core.errors import DataError, Fault
from fewlabel.data.added_mask_reading import plan_with_ignored, read_annotations
from fewlabel.data.io.catalog_paths import mask_suffix
from fewlabel.data.io.integer_types import in_smallest_type
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.masks_added_later import find_annotations
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import PreparedCase, PreparedStore

#: Folder, in that of the annotations, of earlier masks and of who saved what when. Hidden: it is not learnt from.
HISTORY, JOURNAL = ".history", "saved.jsonl"


def save_annotation(folder: Path, store: PreparedStore, case: PreparedCase, values: NDArray[np.integer]) -> Path:
    """Write a mask on the grid of its scan, as one file ``ID.nii.gz`` of the scan's format.

    It is read back as ``learn`` reads it before it takes its place, so that what is saved is what can be learnt from.

    Args:
        folder: ``RUN/annotations``, or another that ``learn`` is given.
        store: The data that the scan belongs to.
        case: The scan.
        values: (z, y, x) values of the data set's classes, 255 where nobody looked.

    Returns:
        The file.

    Raises:
        DataError: If the shape is another, a value is no class, or nothing is annotated.
    """
    image = Path(case.images[0])
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{case.id}{mask_suffix(image)}"
    if target.stem.startswith("."):
        raise DataError("The mask cannot be saved:", [Fault(f"{case.id} would be a hidden file")])
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as place:
        made = Path(place) / target.name
        write_mask(made, in_smallest_type(values), image)
        read_annotations({case.id: made}, {case.id: case}, plan_with_ignored(Plan.load(store.plan)))
        before = find_annotations(folder, store.cases).get(case.id)
        history, now, kept = folder / HISTORY, datetime.now(UTC), ""
        history.mkdir(exist_ok=True)
        if before is not None:
            kept = f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}-{before.name}"
            before.rename(history / kept)
        made.replace(target)
    line = {
        "case": case.id,
        "file": target.name,
        "who": _who(),
        "when": now.isoformat(timespec="seconds"),
        "before": kept,
    }
    append_line(history / JOURNAL, json.dumps(line))
    return target


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in containers.
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
