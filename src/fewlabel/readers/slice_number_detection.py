"""Pictures whose names end in numbers: whether they are the slices of volumes, and of whom."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from fewlabel.data.io.axis_count import slice_size
from fewlabel.data.io.catalog_paths import is_file_path
from fewlabel.data.subjects_from_names import SLICE_WORDS

_NUMBERED = re.compile(
    rf"(?P<before>.*?)[ _\-.]*(?:(?<![A-Za-z])(?P<word>{SLICE_WORDS})[ _\-.]*)?(?P<number>\d+)$", re.IGNORECASE
)
#: Fewer slices than this are no volume, unless a folder holds them.
_FEWEST = 3
#: Share of pictures that are as they are in a volume, where the others are slips to be named.
_MOST = 0.8
Place = tuple[str, tuple[str, ...]]


@dataclass(frozen=True)
class NumberedName:
    """A name that ends in a number.

    Attributes:
        before: What it begins with, without a word for slices.
        number: At its end.
        by_word: Whether a word for slices stands before the number, as in ``p01_slice003``.
    """

    before: str
    number: int
    by_word: bool


@dataclass(frozen=True)
class Series:
    """Pictures of one folder whose names differ in their numbers alone.

    Attributes:
        place: Part and folders.
        name: What the names begin with.
        numbers: Ascending.
        members: Index of each picture in the sequence they were given in.
        by_word: Whether a word for slices stands before all the numbers.
    """

    place: Place
    name: str
    numbers: tuple[int, ...]
    members: tuple[int, ...]
    by_word: bool

    @property
    def gaps(self) -> list[tuple[int, int]]:
        """Numbers that follow each other, but not at the usual step."""
        return gaps_between(self.numbers)

    @property
    def dense(self) -> bool:
        """Whether half of the numbers from the first to the last are there."""
        steps = [high - low for low, high in pairwise(self.numbers) if high > low]
        span = (self.numbers[-1] - self.numbers[0]) // min(steps, default=1) + 1
        return 2 * len(set(self.numbers)) >= span


def gaps_between(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Numbers of an ascending sequence that follow each other, but not at the usual step."""
    steps = [high - low for low, high in pairwise(numbers) if high > low]
    usual = min(steps, default=1)
    return [(low, high) for low, high in pairwise(numbers) if high - low > usual]


def numbered_name(*names: str) -> NumberedName | None:
    """What a number at the end of a name says; None without one.

    Args:
        names: Of one picture; of several spellings the one with a word for slices counts, else the last.
    """
    best = None
    for name in names:
        match = _NUMBERED.match(name)
        if match is not None:
            best = NumberedName(match["before"], int(match["number"]), match["word"] is not None)
            if best.by_word:
                break
    return best


def series_of(names: Sequence[NumberedName | None], places: Sequence[Place]) -> list[Series]:
    """Numbered pictures by folder and beginning of their names; those without a number are in none."""
    groups: dict[tuple[Place, str], list[tuple[int, int, bool]]] = defaultdict(list)
    for index, (name, place) in enumerate(zip(names, places, strict=True)):
        if name is not None:
            groups[(place, name.before)].append((name.number, index, name.by_word))
    series = []
    for (place, before), group in groups.items():
        numbers, members, words = zip(*sorted(group), strict=True)
        series.append(Series(place, before, numbers, members, all(words)))
    return series


def are_volumes(series: Sequence[Series], total: int, size_of: Callable[[int], tuple[int, ...]]) -> bool:
    """Whether each series holds the slices of one volume.

    Certain are rows of two or more with a folder of their own, rows with a word for slices, and rows of three or more
    that share a folder and are numbered from 0 or 1 without gaps. Where most are, or most are numbered anew for each
    name, others may have gaps, other sizes among them or start elsewhere, if a word or a digit in the name or folder
    says that it is one patient's: those are slips, and are no reason to part the slices of a patient.

    Args:
        series: All that are numbered.
        total: Pictures, with those without a number.
        size_of: Size of a picture in the plane, by its index; empty for what is no picture of one slice.
    """
    if not series or (len(series) == 1 and not named_patient(series[0], by_word=True)):
        return False
    places = Counter(each.place for each in series)
    together = max(places.values()) > 1
    certain = 0
    tolerant = True
    for each in series:
        alone = bool(each.place[1]) and places[each.place] == 1
        sound = (alone and len(each.numbers) > 1) or (
            together
            and bool(each.name)
            and len(each.numbers) >= _FEWEST
            and each.numbers[0] in {0, 1}
            and not each.gaps
            and len(set(each.numbers)) == len(each.numbers)
        )
        patient = named_patient(each, alone=alone)
        if not sound and not (patient and each.dense):
            return False
        tolerant = tolerant and patient
        certain += sound or each.by_word or (len(each.numbers) >= _FEWEST and _overlaps(each, series))
    held = sum(len(each.members) for each in series)
    if 2 * certain <= len(series) or held < (_MOST * total if tolerant else total):
        return False
    sizes = (Counter(filter(None, map(size_of, each.members))) for each in series)
    usual = sum(max(counts.values(), default=0) for counts in sizes)
    return usual >= (_MOST * held if tolerant else held)


def named_patient(series: Series, *, alone: bool = False, by_word: bool = False) -> bool:
    """Whether the name or folder of a series can be one patient's: by a word for slices after it, or a digit in it.

    Args:
        series: Of pictures.
        alone: Whether its folder holds no other series, so that the folder's name counts.
        by_word: Whether it takes the word.
    """
    name = series.place[1][-1] if alone and series.place[1] else series.name
    folder = bool(series.place[1])
    return (series.by_word and bool(series.name or folder)) or (not by_word and any(map(str.isdigit, name)))


def patients_of_slices(
    names: Sequence[NumberedName | None], places: Sequence[Place], files: Sequence[Path]
) -> list[str | None]:
    """The patient of each image that is one of the numbered slices of patients; None for others.

    Args:
        names: Of the images.
        places: Where they lie.
        files: Of the images; of those with more than one slice nothing is said.
    """
    series = series_of(names, places)
    patients: list[str | None] = [None] * len(files)
    if not are_volumes(series, len(files), lambda index: slice_size(files[index])):
        return patients
    together = Counter(each.place for each in series)
    for each in series:
        alone = together[each.place] == 1
        if named_patient(each, alone=alone):
            folder = each.place[1][-1] if alone and each.place[1] else ""
            for index in each.members:
                patients[index] = folder or each.name
    return patients


def patients_by_case(files: Mapping[str, Path]) -> dict[str, str]:
    """Case → patient, as :func:`patients_of_slices`.

    Args:
        files: Case → its image; arrays in files and what is composed of several are passed over.
    """
    plain = {case: path for case, path in files.items() if is_file_path(path)}
    places: list[Place] = [(str(path.parent), ()) for path in plain.values()]
    patients = patients_of_slices([numbered_name(case) for case in plain], places, list(plain.values()))
    return {case: patient for case, patient in zip(plain, patients, strict=True) if patient is not None}


def _overlaps(series: Series, others: Sequence[Series]) -> bool:
    """Whether numbers begin anew for each name."""
    return any(
        other is not series and other.numbers[0] <= series.numbers[-1] and series.numbers[0] <= other.numbers[-1]
        for other in others
    )
