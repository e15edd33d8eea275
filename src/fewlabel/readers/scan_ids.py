"""Ids and subjects of scans that lie in folders, for readers that go by names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fewlabel.data.subjects_from_names import DATE, guess_subjects, is_side
from fewlabel.readers.image_names import part_of_folder

Home = tuple[str, ...]
_UNSAFE = re.compile(r"[^\w.\-]+")
#: Folders of one patient for each visit.
_VISIT = re.compile(
    r"(?:ses|session|visit|tp|timepoint|time|scan|exam|study|anat|baseline"
    rf"|follow.?up|pre|post)[ _-]?\w{{0,4}}|{DATE}",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Placed:
    """A scan by its place.

    Attributes:
        home: Folders that say neither what is in them nor a part.
        name: Of the scan; empty where the folder alone names it.
        folders: All of its folders.
        picture: Whether it is a 2D picture, of which one folder may hold many of a kind.
    """

    home: Home
    name: str
    folders: Home = ()
    picture: bool = False


def case_ids(scans: Sequence[Placed]) -> list[str]:
    """Names of scans, led by folders as far as needed to tell them apart; characters that files may not have are _."""
    ids: list[str] = []
    # The name alone, then with the last folder, with those that mean something, and with all of them.
    leading: tuple[Callable[[Placed], Home], ...] = (
        lambda scan: scan.home[:0],
        lambda scan: scan.home[-1:],
        lambda scan: scan.home,
        lambda scan: scan.folders,
    )
    for folders in leading:
        ids = [_UNSAFE.sub("_", "_".join(filter(None, (*folders(scan), scan.name)))) for scan in scans]
        if all(ids) and len({name.lower() for name in ids}) == len(ids):
            break
    return [name or "scan" for name in ids]


def patient_folders(scans: Sequence[Placed]) -> dict[Home, str] | None:
    """Folder → subject, where there is a folder for each patient; None where folders are something else.

    They are patients where there are several, and each holds one scan, scans that bear its name but no pictures, or
    scans of the same names as the others. The last folder names the patient, but for one of a visit (``ses-1``,
    ``baseline``, ``20200131``), and with the folders above it where patients of two share a name. Folders of sides of
    the body (``left``, ``right``) are no patients.
    """
    homes: dict[Home, list[str]] = defaultdict(list)
    for scan in scans:
        homes[scan.home].append(scan.name.lower())
    if () in homes or len(homes) < 2 or all(len(home) == 1 and is_side(home[0]) for home in homes):
        return None
    names = list(homes.values())
    alone = all(len(each) == 1 for each in names)
    parts = any(part_of_folder(home[-1]) is not None for home in homes)
    bearing = not (parts or any(scan.picture for scan in scans)) and all(
        all(_bears(name, home) for name in each) for home, each in homes.items()
    )
    alike = len({tuple(sorted(each)) for each in names}) == 1
    if not (alone or bearing or alike):
        return None
    patients = {home: _without_visits(home) for home in homes}
    last: dict[str, set[Home]] = defaultdict(set)
    for patient in patients.values():
        last[patient[-1]].add(patient)
    return {
        home: patient[-1] if len(last[patient[-1]]) == 1 else "_".join(patient) for home, patient in patients.items()
    }


def subjects_of(scans: Sequence[Placed], ids: Sequence[str]) -> list[str]:
    """Subject of each scan: the folder of its patient, else by its id (:func:`guess_subjects`)."""
    patients = patient_folders(scans)
    names = list(ids) if patients is None else [patients[scan.home] for scan in scans]
    guessed = guess_subjects(list(dict.fromkeys(names)))
    return [_UNSAFE.sub("_", guessed[name]) for name in names]


def _bears(name: str, home: Home) -> bool:
    return not name or name.startswith(home[-1].lower())


def _without_visits(home: Home) -> Home:
    patient = home
    while len(patient) > 1 and _VISIT.fullmatch(patient[-1]):
        patient = patient[:-1]
    return patient
