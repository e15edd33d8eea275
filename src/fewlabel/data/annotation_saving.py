"""A mask that somebody has just drawn, put where ``learn`` takes it from.

The mask that it takes the place of is kept, and who saved what when is written down, beside it and nowhere else.
"""

from __future__ import annotations

import errno
import getpass
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from fewlabel.core.artifact.files import append_line, file_hash
from fewlabel.core.errors import DataError, Fault
from fewlabel.data.added_mask_reading import read_annotation
from fewlabel.data.io.catalog_paths import mask_suffix, shown
from fewlabel.data.io.integer_types import in_smallest_type
from fewlabel.data.io.mask_writing import write_mask
from fewlabel.data.masks_added_later import look_through, name_for_mask
from fewlabel.data.preprocess import Plan
from fewlabel.data.store import PreparedCase

#: Folder, in that of the annotations, of earlier masks and of who saved what when. Hidden: it is not learnt from.
HISTORY, JOURNAL = ".history", "saved.jsonl"
#: Lies in the folder while a mask takes its place there; by its name it counts as half written.
_LOCK = ".saving.lock.partial"
#: Seconds to wait for another process, which needs a moment.
_PATIENCE = 60.0
#: What file systems without locks answer: there the threads of one process are told apart alone.
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
#: Of two that are saved at once, the second finds the first, and keeps it.
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class SavedAnnotation:
    """What was written, where, by whom and when."""

    file: Path
    who: str
    when: str

    def record(self) -> dict[str, Any]:
        """For the journal, and for whoever asked for it."""
        return {"file": self.file.name, "who": self.who, "when": self.when}


def save_annotation(
    folder: Path,
    cases: Sequence[PreparedCase],
    case: PreparedCase,
    plan: Plan,
    values: NDArray[np.integer[Any]],
    *,
    nothing_there: bool = False,
) -> SavedAnnotation:
    """Write a mask on the grid of its scan, as one file ``ID.nii.gz`` of the scan's format, or a name like it.

    It is read back as ``learn`` reads it before it takes its place, so that what is saved is what can be learnt from.
    There is a mask of the scan at every moment: the earlier one goes when the new one has taken its place.

    Args:
        folder: ``RUN/annotations``, or another that ``learn`` is given; made if it is not there.
        cases: All scans that masks in the folder may belong to.
        case: The scan.
        plan: What values stand for, with a value to ignore.
        values: (z, y, x) values of the plan's classes, its value to ignore where nobody looked.
        nothing_there: Whether it is all background and somebody said that this is right, which is kept for ``learn``.

    Raises:
        DataError: If the shape is another, a value is no class, or nothing is annotated.
        OSError: If it cannot be written.
    """
    image = Path(case.images[0])
    target = folder / f"{name_for_mask(case, cases)}{mask_suffix(image)}"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as place:
        made = Path(place) / target.name
        with _named(made, case.id):
            write_mask(made, in_smallest_type(values), image)
            read_annotation(case, made, plan)
        with _alone(folder):
            return _put(made, target, case, cases, nothing_there=nothing_there)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep a folder of masks to this thread of this process: ``view`` and ``serve`` of a run may both save into it.

    Raises:
        DataError: If another process does not come to an end.
    """
    lock = FileLock(folder / _LOCK, _PATIENCE, poll_interval=0.02, fallback_to_soft=False)
    with _one_at_a_time:
        try:
            lock.acquire()
        except Timeout as error:
            fault = Fault("another process is saving there", str(folder), "Save again when it has ended")
            raise DataError("The mask was not saved:", [fault]) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            (folder / _LOCK).unlink(missing_ok=True)
        try:
            yield
        finally:
            if lock.is_locked and sys.platform != "win32":
                # While it is still held: who waits for it finds that it is gone, and makes another.
                (folder / _LOCK).unlink(missing_ok=True)
            lock.release()


@contextmanager
def _named(made: Path, name: str) -> Iterator[None]:
    """Have errors name the scan in place of a file that is gone when they are read."""
    try:
        yield
    except DataError as error:
        where = {shown(made): name, str(made): name}
        faults = [
            replace(
                fault, problem=fault.problem.replace(str(made), "the mask"), where=where.get(fault.where, fault.where)
            )
            for fault in error.faults
        ]
        raise DataError("The mask cannot be saved:", faults) from error
    except OSError as error:
        if error.errno is not None and error.filename == str(made):
            error.filename = name
        raise


def _put(
    made: Path, target: Path, case: PreparedCase, cases: Sequence[PreparedCase], *, nothing_there: bool
) -> SavedAnnotation:
    """Have a mask take its place, the earlier one kept, and note it."""
    folder, now = target.parent, datetime.now(UTC)
    there, history = look_through(folder, cases), folder / HISTORY
    if case.id in there.several:
        raise DataError("The mask cannot be saved:", [there.several[case.id]])
    before = there.masks.get(case.id)
    history.mkdir(exist_ok=True)
    kept = _keep(before, history, now) if before is not None else ""
    made.replace(target)
    if before is not None and before != target:
        # Of two masks of one scan nobody could say which counts.
        before.unlink()
    saved = SavedAnnotation(target, _who(), now.isoformat(timespec="seconds"))
    said = {"nothing_there": file_hash(target)} if nothing_there else {}
    append_line(history / JOURNAL, json.dumps({"case": case.id, **saved.record(), "before": kept, **said}))
    return saved


def saved_by(folder: Path) -> dict[str, Mapping[str, str]]:
    """Id → who saved its mask last, and when, as far as :func:`save_annotation` saved it."""
    return {
        str(line["case"]): {"who": str(line["who"]), "when": str(line["when"])}
        for line in _journal(folder)
        if {"case", "who", "when"} <= line.keys()
    }


def said_to_be_empty(folder: Path) -> frozenset[tuple[str, str]]:
    """Id and SHA-256 of masks of background alone that somebody said are right, as they saved them."""
    lines = [line for line in _journal(folder) if {"case", "nothing_there"} <= line.keys()]
    return frozenset((str(line["case"]), str(line["nothing_there"])) for line in lines)


def _journal(folder: Path) -> Iterator[Mapping[str, Any]]:
    try:
        lines = (folder / HISTORY / JOURNAL).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for text in lines:
        try:
            line = json.loads(text)
        except ValueError:
            # A line that was cut short.
            continue
        if isinstance(line, dict):
            yield line


def _keep(mask: Path, history: Path, now: datetime) -> str:
    """Another name for the mask as it is; a copy where the disk knows no second name."""
    name = f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}-{mask.name}"
    try:
        os.link(mask, history / name)
    except OSError:
        shutil.copyfile(mask, history / name)
    return name


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        # A user without a name, as in containers.
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"
