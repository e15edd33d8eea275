"""Who the patients of a DICOM data set are, and texts on one of them without the name of any."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fewlabel.data.io.dicom.headers import Header
from fewlabel.data.io.dicom.private_text import body_parts, is_nobody, patient_names, spellings, without_names

#: Shorter numbers are in many paths by chance.
_LONG_NUMBER = 4


@dataclass(frozen=True)
class NameFilter:
    """What takes names out of the texts of a data set.

    Attributes:
        patients: What names any of its patients.
    """

    patients: frozenset[str]

    @classmethod
    def of(cls, headers: Iterable[Header], known: Collection[tuple[str, str]]) -> NameFilter:
        """The filter of a data set.

        Args:
            headers: Of all its files.
            known: Name and number of patients in other files of the data set.
        """
        people = {(header.person, header.patient[1]) for header in headers}.union(known)
        return cls(frozenset().union(*(patient_names(*each) for each in people)))

    def clean(self, text: str, words: frozenset[str]) -> str:
        """A text without names, see :func:`fewlabel.data.io.dicom.private_text.without_names`.

        What the standard calls a part of the body is none: there are people called Colon, and patients are numbered
        LIVER-17.

        Args:
            text: Of a tag.
            words: That name whom it is on.
        """
        plain = without_names(text, words, self.patients)
        if plain == without_names(text, ()):
            return plain
        parts = body_parts()
        return without_names(text, words - parts, self.patients - parts)


def patients_apart(headers: Sequence[Header]) -> tuple[list[Header], int]:
    """Headers in whose studies and series there is one patient each, and how many studies had several.

    UIDs belong to one patient. Where a program that anonymises gave several the same, the number of the patient is made
    part of it, so that nobody's slices get among those of another.
    """
    numbers: dict[str, set[str]] = defaultdict(set)
    for header in headers:
        if header.planes and not is_nobody(header.patient[1]):
            numbers[header.study].add(header.patient[1])
    shared = {study for study, several in numbers.items() if len(several) > 1}
    apart = [
        replace(header, study=f"{header.study} {header.patient[1]}", series=f"{header.series} {header.patient[1]}")
        if header.study in shared
        else header
        for header in headers
    ]
    return apart, len(shared)


def subjects_of(headers: Iterable[Header]) -> Mapping[str, tuple[str, ...]]:
    """UID of each study → what its patient is known by: issuer and number, or where there is none, the UID alone."""
    return {header.study: (header.study,) if is_nobody(header.patient[1]) else header.patient for header in headers}


def names_a_patient(path: Path, headers: Iterable[Header]) -> bool:
    """Whether a part of a path holds the number of a patient, or two words of a name."""
    parts = [unicodedata.normalize("NFC", part).casefold() for part in path.parts]
    for person, number in {(header.person, header.patient[1].strip()) for header in headers}:
        numbered = len(number) >= _LONG_NUMBER and not is_nobody(number)
        words = [set(spellings(word)) for word in set(re.findall(r"[^\W\d_]{3,}", person.casefold()))]
        for part in parts:
            if numbered and number.casefold() in part:
                return True
            if sum(any(spelled in part for spelled in word) for word in words) > 1:
                return True
    return False
