"""Texts of DICOM tags without what names a person: words that stand in tags of people and numbers, and dates."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Any

from fewlabel.data.io.dicom.quiet_pydicom import quiet
from fewlabel.data.io.dicom.tags import elements_of, texts_of

#: Tags that say who, besides all whose values are names of people: each word counts.
_PERSON = (
    "PatientID", "OtherPatientIDs", "OtherPatientNames", "PatientAddress", "PatientBirthName", "PatientMotherBirthName",
    "PatientTelephoneNumbers", "MedicalRecordLocator", "ClinicalTrialSubjectID", "PatientComments",
)  # fmt: skip
#: Tags that say which one: each word with a digit counts, as others say what was examined.
_NUMBER = (
    "AccessionNumber", "StudyID", "StationName", "DeviceSerialNumber", "AdmissionID", "IssuerOfPatientID",
    "RequestingService",
)  # fmt: skip
#: Tags that say where: the whole of it counts, and each word of five letters or more that says no kind of place.
_PLACE = ("InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName", "StationName")
_KIND_OF_PLACE = re.compile(
    "abdom|abteil|ambulan|body|cardi|cent(er|re|r)|chest|child|clini|depart|diagno|divisi|gener|german|health|heart|"
    "hosp|hôpital|image|imaging|instit|internat|klini|kranken|magnet|medi[cz]|nation|neuro|nucle|oncol|ospedal|pa?edia|"
    "praxis|radiol|region|resear|resona|scann|school|secti|servic|spine|stati|thora|unit$|univers"
)
_WORD = re.compile(r"[^\W_]+")
#: Dates, and numbers as long as those of patients and examinations.
_LONG = re.compile(
    r"(?<!\d)(?:\d{6,}|\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{1,2}[-./ ]?"
    r"(?:jan|feb|ma?r|apr|ma[iy]|jun|jul|aug|sep|o[ck]t|nov|de[cz])[a-z]*[-./ ]?\d{2,4})(?!\d)",
    re.IGNORECASE,
)
_SPELLED_OUT = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "ß": "ss"})
_REPEATED = re.compile(r"([-_^.,;/\\])(?:\s*\1)+")
_ENDS = " -_^.,;/\\"
#: Shorter words are initials, which occur everywhere; so many letters count within other words, too.
_SHORTEST, _WITHIN = 2, 5
_MOST = 64


def naming_words(dataset: Any) -> frozenset[str]:
    """The words and phrases, in lower case, that name a person, a place or an examination.

    Args:
        dataset: Header of an object; items of sequences count, too.
    """
    words: set[str] = set()
    with quiet():
        for value in (*_people(dataset), *_values(dataset, _PERSON)):
            words.update(word for word in _WORD.findall(value.casefold()) if len(word) >= _SHORTEST)
        for value in _values(dataset, _NUMBER):
            numbers = (word for word in _WORD.findall(value.casefold()) if any(map(str.isdigit, word)))
            words.update(word for word in numbers if len(word) > _SHORTEST)
        for value in _values(dataset, _PLACE):
            words.add(" ".join(value.casefold().split()))
            parts = (word for word in _WORD.findall(value.casefold()) if len(word) >= _WITHIN)
            words.update(word for word in parts if not _KIND_OF_PLACE.match(word))
    return frozenset(spelling for word in words for spelling in _spellings(word)) - {""}


def without_names(text: str, words: Collection[str]) -> str:
    """A text without these words and phrases, without dates and long numbers; of at most 64 letters.

    Args:
        text: Of a tag.
        words: As :func:`naming_words` has them. Those of five letters or more count as parts of words, too.

    Example:
        >>> without_names("T1 Doe 20240131 sag", {"doe"})
        'T1 sag'
    """
    long = [word for word in words if len(word) >= _WITHIN]

    def kept(match: re.Match[str]) -> str:
        word = match[0].casefold()
        return "" if word in words or any(part in word for part in long) else match[0]

    plain = " ".join(_LONG.sub("", text).split())
    for phrase in (word for word in words if not _WORD.fullmatch(word)):
        plain = re.sub(re.escape(phrase), "", plain, flags=re.IGNORECASE)
    for name in filter(str.isalpha, long):
        # A name may be written in several words.
        spread = r"[\W_]?".join(name)
        plain = re.sub(rf"(?<![^\W_]){spread}(?![^\W_])", "", plain, flags=re.IGNORECASE)
    plain = _REPEATED.sub(r"\1", _WORD.sub(kept, plain))
    return " ".join(plain.split())[:_MOST].strip(_ENDS)


def _spellings(word: str) -> Iterator[str]:
    """A word as it is, with its umlauts spelled out, and without marks on its letters."""
    yield word
    yield word.translate(_SPELLED_OUT)
    yield "".join(letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))


def _people(dataset: Any) -> Iterator[str]:
    for element in elements_of(dataset):
        if element.VR == "SQ":
            for item in element.value or ():
                yield from _people(item)
        elif element.VR == "PN":
            yield str(element.value)


def _values(dataset: Any, names: Collection[str]) -> Iterator[str]:
    for name in names:
        yield from texts_of(dataset, name)
