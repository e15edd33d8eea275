"""Masks that somebody drew or corrected after the scans were prepared, each matched to its scan by its name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.file_names import file_stem, is_scan
from fewlabel.data.mask_names import is_mask_name
from fewlabel.data.store import PreparedCase

#: Folder of a run that such masks are put into.
FOLDER = "annotations"


def find_annotations(folder: Path, cases: Sequence[PreparedCase]) -> dict[str, Path]:
    """The mask of each scan that a folder holds one of, by the id of the scan, in store order.

    A mask is named by the id of its scan or by the file of it, and a word for a mask may follow: ``p01_ed.nii.gz``,
    ``p01_ed_seg.nrrd``. Hidden files, tables and notes are passed over.

    Args:
        folder: Looked through with all folders below it.
        cases: The scans of the store.

    Raises:
        DataError: If there is no such folder, a mask belongs to no scan or to several, or a scan has several masks.
    """
    if not folder.is_dir():
        problem = f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}"
        raise DataError("There are no masks:", [Fault(problem, remedy="Give a folder of masks")])
    owners: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        for name in (case.id, *(scan_stem(Path(image)) for image in case.images[:1])):
            owners[name].add(case.id)
    masks: dict[str, list[Path]] = defaultdict(list)
    faults = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if hidden or not path.is_file() or not is_scan(path):
            continue
        name = _scan_name(file_stem(path), owners)
        if not name:
            near = did_you_mean(file_stem(path), owners, otherwise="Name it like the file of its scan")
            faults.append(Fault("belongs to no prepared scan", str(path), near))
        elif len(owners[name]) > 1:
            shown = ", ".join(sorted(owners[name]))
            faults.append(Fault(f"may belong to {shown}", str(path), "Name it by one of these"))
        else:
            masks[next(iter(owners[name]))].append(path)
    for case_id, paths in masks.items():
        if len(paths) > 1:
            problem = f"has {len(paths)} masks: {', '.join(map(str, paths))}"
            faults.append(Fault(problem, case_id, "Leave the one that counts"))
    if faults:
        raise DataError(f"The masks in {folder} cannot be used:", faults)
    return {case.id: masks[case.id][0] for case in cases if case.id in masks}


def _scan_name(stem: str, names: dict[str, set[str]]) -> str:
    """The name of a scan that a mask is named after; empty for none."""
    if stem in names:
        return stem
    begun = [name for name in names if stem.startswith(name) and not stem[len(name)].isalnum()]
    longest = max(begun, key=len, default="")
    return longest if longest and is_mask_name(Path(stem[len(longest) :])) else ""
