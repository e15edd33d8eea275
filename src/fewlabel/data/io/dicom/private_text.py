"""Texts of DICOM tags without what names a person: words that stand in tags of people and numbers, and dates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterator
from typing import Any

from fewlabel.data.io.dicom.tags import elements_of, texts_of

#: Tags that say who, where or which one, besides all whose values are names of people.
_NAMING = (
    "PatientID", "OtherPatientIDs", "PatientAddress", "PatientBirthName", "PatientMotherBirthName",
    "PatientTelephoneNumbers", "MedicalRecordLocator", "AccessionNumber", "StudyID", "InstitutionName",
    "InstitutionAddress", "InstitutionalDepartmentName", "StationName", "DeviceSerialNumber", "RequestingService",
    "AdmissionID", "IssuerOfPatientID", "ClinicalTrialSubjectID", "PatientInsurancePlanCodeSequence",
)  # fmt: skip
_WORDS = re.compile(r"[^\W_]+")
#: Dates, and numbers as long as those of patients and examinations.
_LONG = re.compile(r"(?<!\d)(?:\d{6,}|\d{1,4}[-./]\d{1,2}[-./]\d{1,4})(?!\d)")
#: Shorter words are syllables and initials, which occur everywhere.
_SHORTEST = 3
#: Words of places that say nothing of a person.
_COMMON = frozenset({"the", "and", "der", "des", "mri", "pet", "ctr", "hospital", "clinic", "center", "centre"})
_MOST = 64


def naming_words(dataset: Any) -> frozenset[str]:
    """The words, in lower case, of everything in an object that names a person, a place or an examination.

    Args:
        dataset: Header of the object; sequences count, too.
    """
    words: set[str] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in _naming_values(dataset):
            words.update(word for word in _WORDS.findall(value.casefold()) if len(word) >= _SHORTEST)
    return frozenset(words - _COMMON)


def without_names(text: str, words: Collection[str]) -> str:
    """A text without these words, without dates and without long numbers; of at most 64 letters.

    A word goes that is one of these, or that holds one of five letters or more.

    Args:
        text: Of a tag.
        words: As :func:`naming_words` has them.

    Example:
        >>> without_names("T1 Doe 20240131 sag", {"doe"})
        'T1 sag'
    """
    long = [word for word in words if len(word) > 4]

    def kept(match: re.Match[str]) -> str:
        word = match[0].casefold()
        return "" if word in words or any(part in word for part in long) else match[0]

    plain = _WORDS.sub(kept, _LONG.sub("", text))
    tidy = re.sub(r"\s+", " ", re.sub(r"([-_^.,;/\\])(?:\s*\1)+", r"\1", plain)).strip(" -_^.,;/\\")
    return tidy[:_MOST].strip()


def _naming_values(dataset: Any) -> Iterator[str]:
    for name in _NAMING:
        yield from texts_of(dataset, name)
    for element in elements_of(dataset):
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _naming_values(item)
        elif element.VR == "PN":
            yield str(element.value)
