"""A mask that somebody has just drawn, put where ``learn`` takes it from, never over the source.

The mask that it takes the place of is kept, and who saved what when is written down, beside it and nowhere else.
"""

from __future__ import annotations

import getpass
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.artifact.files import append_line
from fewlabel.core.errors import DataError, Fault
from fewlabel.core.output_paths import as_file_name
from fewlabel.data.io.catalog_paths import mask_suffix, scan_stem
from fewlabel.data.io.mask_writing import in_smallest_type, write_mask
from fewlabel.data.masks_added_later import find_annotations
from fewlabel.data.store import PreparedCase

#: Folder, in that of the annotations, of earlier masks and of who saved what when. Hidden: it is not learnt from.
HISTORY, JOURNAL = ".history", "saved.jsonl"
NOTHING = "The mask was not saved:"


@dataclass(frozen=True)
class Saved:
    """What was written, where, by whom and when."""

    file: Path
    who: str
    when: str

    def record(self) -> dict[str, Any]:
        """For whoever saved it."""
        return {"file": self.file.name, "who": self.who, "when": self.when}


def save_annotation(
    folder: Path, case: PreparedCase, cases: Sequence[PreparedCase], values: NDArray[np.integer[Any]]
) -> Saved:
    """Write a mask on the grid of its scan, in one file of the scan's format that is named by the scan.

    Args:
        folder: ``RUN/annotations``, or another that ``learn`` is given; made if it is not there.
        case: The scan.
        cases: All scans that the folder may hold masks of.
        values: (z, y, x) values of the data set's classes, 255 where nobody looked.

    Raises:
        DataError: If the shape is not the scan's, the scan has no name for a file, or the masks that are there cannot
            be told apart.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / _file_name(case, cases)
    history, now, kept = folder / HISTORY, datetime.now(UTC), ""
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as place:
        made = Path(place) / target.name
        write_mask(made, in_smallest_type(values), Path(case.images[0]))
        before = find_annotations(folder, cases).get(case.id)
        history.mkdir(exist_ok=True)
        if before is not None:
            # Of two masks of one scan nobody could say which counts.
            kept = f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}-{before.name}"
            before.rename(history / kept)
        made.replace(target)
    saved = Saved(target, _who(), now.isoformat(timespec="seconds"))
    append_line(history / JOURNAL, json.dumps({"case": case.id, **saved.record(), "before": kept}))
    return saved


def saved_by(folder: Path | None) -> dict[str, Mapping[str, str]]:
    """Id → who saved its mask last, and when, as far as :func:`save_annotation` did it."""
    found: dict[str, Mapping[str, str]] = {}
    try:
        lines = (folder / HISTORY / JOURNAL).read_text(encoding="utf-8").splitlines() if folder is not None else []
    except OSError:
        lines = []
    for text in lines:
        try:
            line = json.loads(text)
            found[str(line["case"])] = {"who": str(line["who"]), "when": str(line["when"])}
        except (ValueError, KeyError, TypeError):
            # A line that was cut short.
            continue
    return found


def _file_name(case: PreparedCase, cases: Sequence[PreparedCase]) -> str:
    """A name by which the mask is found again: the id, or the name of its file where an id names no file."""
    image = Path(case.images[0])
    stems = [scan_stem(Path(other.images[0])) for other in cases]
    names = [case.id, *([scan_stem(image)] if stems.count(scan_stem(image)) == 1 else [])]
    for name in names:
        if as_file_name(name) == name:
            return f"{name}{mask_suffix(image)}"
    raise DataError(NOTHING, [Fault(f"{case.id} is no name for a file", remedy="Give the scan another id")])


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in containers.
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
