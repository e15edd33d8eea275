"""Masks that somebody drew or corrected after the scans were prepared, each matched to its scan by its name."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.output_paths import as_file_name
from fewlabel.core.progress import say
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.io.catalog_paths import scan_stem
from fewlabel.data.io.file_names import file_stem, is_scan
from fewlabel.data.mask_names import is_mask_name
from fewlabel.data.store import PreparedCase

#: Folder of a run that such masks are put into.
FOLDER = "annotations"


def find_annotations(folder: Path, cases: Sequence[PreparedCase], *, strays_left_out: bool = False) -> dict[str, Path]:
    """The mask of each scan that a folder holds one of, by the id of the scan, in store order.

    A mask is named by the id of its scan or by the file of it, and a word for a mask may follow: ``p01_ed.nii.gz``,
    ``p01_ed_seg.nrrd``; or as :func:`name_for_mask` has it. Hidden files, tables and notes are passed over.

    Args:
        folder: Looked through with all folders below it.
        cases: The scans of the store.
        strays_left_out: Whether a mask that belongs to no scan, or to several, is left out, which is said.

    Raises:
        DataError: If there is no such folder, a mask belongs to no scan or to several, or a scan has several masks.
    """
    if not folder.is_dir():
        problem = f"{folder} {'is not a folder' if folder.exists() else 'does not exist'}"
        raise DataError("There are no masks:", [Fault(problem, remedy="Give a folder of masks")])
    looked = look_through(folder, cases)
    strays = () if strays_left_out else looked.strays
    if faults := [*strays, *looked.several.values()]:
        raise DataError(f"The masks in {folder} cannot be used:", faults)
    if strays_left_out:
        for stray in looked.strays:
            say(f"Left out of the masks: {stray}")
    return looked.masks


@dataclass(frozen=True)
class Annotations:
    """What lies in a folder of masks.

    Attributes:
        masks: Id → the mask of a scan that has one.
        strays: A fault for each image that belongs to no scan, or to several.
        several: Id → the fault of a scan that has several masks.
    """

    masks: dict[str, Path]
    strays: tuple[Fault, ...]
    several: dict[str, Fault]


def look_through(folder: Path, cases: Sequence[PreparedCase]) -> Annotations:
    """As :func:`find_annotations`, where what cannot be used is to keep nobody from the rest.

    Args:
        folder: Looked through with all folders below it; nothing lies in one that is not there.
        cases: The scans of the store.
    """
    owners = _owners(cases)
    masks: dict[str, list[Path]] = defaultdict(list)
    faults: list[Fault] = []
    for path in _files(folder, faults):
        if not path.is_file() or not is_scan(path):
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
    several = {
        case_id: Fault(f"has {len(paths)} masks: {', '.join(map(str, paths))}", case_id, "Leave the one that counts")
        for case_id, paths in masks.items()
        if len(paths) > 1
    }
    usable = {case.id: masks[case.id][0] for case in cases if case.id in masks and case.id not in several}
    return Annotations(usable, tuple(faults), several)


def _files(folder: Path, faults: list[Fault]) -> list[Path]:
    """Files in a folder and in those below it, sorted, without what is hidden; folders that cannot be read are faults.

    Another process may be saving there: its hidden folder, or any other, may go while this looks.
    """
    found: list[Path] = []

    def shut(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError | NotADirectoryError):
            problem = f"cannot be looked through: {error.strerror or error}"
            faults.append(Fault(problem, str(error.filename), "Make it readable, or move it elsewhere"))

    for place, below, names in os.walk(folder, onerror=shut):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(place, name) for name in names if not name.startswith(".")]
    return sorted(found)


def name_for_mask(case: PreparedCase, cases: Sequence[PreparedCase]) -> str:
    """What to call the mask of a scan, without suffix, so that :func:`find_annotations` finds it and no other.

    The id, or the name of its file where the id names no file; where neither does, as of ``5% dose`` or of scans of the
    same name in several folders, the id with signs in place of what a name may not hold.

    Args:
        case: The scan.
        cases: All scans that masks in the folder may belong to.
    """
    owners = _owners(cases)
    usual = (name for name in (case.id, *_stems(case)) if as_file_name(name) == name and owners[name] == {case.id})
    return next(usual, _safe(case.id, owners))


def _owners(cases: Sequence[PreparedCase]) -> dict[str, set[str]]:
    """Name of a mask → ids of the scans that it may belong to."""
    owners: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        for name in (case.id, *_stems(case)):
            owners[name].add(case.id)
    for name, case_id in [(_safe(case.id, owners), case.id) for case in cases]:
        owners[name].add(case_id)
    return owners


def _stems(case: PreparedCase) -> list[str]:
    """Of the file of its first channel."""
    return [scan_stem(Path(image)) for image in case.images[:1]]


def _safe(case_id: str, owners: Mapping[str, set[str]]) -> str:
    """A name that any disk takes and no other scan has."""
    name = as_file_name(case_id)
    if owners.get(name, {case_id}) == {case_id}:
        return name
    return f"{name}%{hashlib.sha256(case_id.encode(errors='surrogatepass')).hexdigest()[:16]}"


def _scan_name(stem: str, names: dict[str, set[str]]) -> str:
    """The name of a scan that a mask is named after; empty for none."""
    if stem in names:
        return stem
    begun = [name for name in names if stem.startswith(name) and not stem[len(name)].isalnum()]
    longest = max(begun, key=len, default="")
    return longest if longest and is_mask_name(Path(stem[len(longest) :])) else ""
