"""Texts of DICOM tags without what names a person: words that stand in tags of people and numbers, and dates."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator
from functools import cache
from itertools import pairwise
from typing import Any

from fewlabel.data.io.dicom.quiet_pydicom import code_dictionary, quiet
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
#: What stands for a patient's number, or for a name, where there is none.
_NOBODY = re.compile(
    r"|0+|x+|anon\w*|unknown|none|n\.?/?a\.?|null|no ?name|patient|removed|de-?identified|default|test", re.IGNORECASE
)
#: Words of a name such as ``AdrenalGland``.
_CAMEL = re.compile("[A-Z]?[a-z]{2,}")
_WORD = re.compile(r"[^\W_]+")
#: Parts of a word such as ``EvaMueller2``.
_PARTS = re.compile(r"\d+|[^\W\d_]+")
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
#: Of names and numbers of other patients: shorter ones occur by chance. In other scripts two letters are a name.
_SHORTEST_NAME, _SHORTEST_NUMBER = 3, 4
#: Words of a text that may be one name, written apart.
_APART = 3
_MOST = 64


def naming_words(dataset: Any) -> frozenset[str]:
    """The words and phrases, in lower case, that name a person, a place or an examination.

    Args:
        dataset: Header of an object; items of sequences count, too.
    """
    words: set[str] = set()
    with quiet():
        for value in (*_people(dataset), *_values(dataset, _PERSON)):
            words.update(word for word in words_of(value) if len(word) >= _SHORTEST)
        for value in _values(dataset, _NUMBER):
            words.update(word for word in words_of(value) if _has_digit(word) and len(word) > _SHORTEST)
        for value in _values(dataset, _PLACE):
            words.add(" ".join(_folded(value).split()))
            parts = (word for word in words_of(value) if len(word) >= _WITHIN)
            words.update(word for word in parts if not _KIND_OF_PLACE.match(word))
    return _all_spellings(words)


def patient_names(name: str, number: str) -> frozenset[str]:
    """What of a patient's name and number may not stand in texts on any patient, in lower case.

    These are words of three letters or more, families that are written in several words as one, first and last name
    beside each other where one is shorter, and words of the number with a digit.

    Args:
        name: As ``PatientName`` has it: parts by ``^``, scripts by ``=``.
        number: As ``PatientID`` has it.
    """
    words: set[str] = set()
    for script in _folded(name).split("="):
        for part in script.split("^"):
            several = _WORD.findall(part)
            words.update((*several, "".join(several)))
        every = _WORD.findall(script)
        words.update(("".join(every), "".join(every[::-1])))
        pairs = ((one, other) for one in every for other in every if one != other)
        words.update(f"{one} {other}" for one, other in pairs if min(len(one), len(other)) < _SHORTEST_NAME)
    named = {word for word in words if len(word) >= (_SHORTEST_NAME if word.isascii() else _SHORTEST)}
    counted = {word for word in (*named, *words_of(number)) if _has_digit(word) and len(word) >= _SHORTEST_NUMBER}
    return _all_spellings({word for word in named if not _has_digit(word) and not is_nobody(word)} | counted)


@cache
def body_parts() -> frozenset[str]:
    """Words by which DICOM names regions of the body and what is segmented (PS3.16, CID 4 and 7151), in lower case."""
    codes = code_dictionary()
    return frozenset(
        word.lower() for group in (codes.cid4, codes.cid7151) for name in group.dir() for word in _CAMEL.findall(name)
    )


def is_nobody(number: str) -> bool:
    """Whether a patient's number, or a word of a name, stands for there being none."""
    return _NOBODY.fullmatch(number.strip()) is not None


def words_of(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(_folded(text))


def without_names(text: str, own: Collection[str], others: Collection[str] = frozenset()) -> str:
    """A text without these words and phrases, without dates and long numbers; of at most 64 letters.

    Args:
        text: Of a tag.
        own: Words that name whom the text is on, as :func:`naming_words` has them. Those of five letters or more count
            as parts of words, too.
        others: Names of other patients, as :func:`patient_names` has them. They count as whole words, also of a word
            such as ``EvaMueller2``, and if they are written in up to three words.

    Example:
        >>> without_names("T1 Doe 20240131 sag", {"doe"})
        'T1 sag'
    """
    long = [word for word in own if len(word) >= _WITHIN]

    def kept(match: re.Match[str]) -> str:
        spelled = set(spellings(match[0].casefold()))
        return "" if not spelled.isdisjoint(own) or any(part in word for word in spelled for part in long) else match[0]

    plain = " ".join(_LONG.sub("", unicodedata.normalize("NFC", text)).split())
    for phrase in (word for word in own if not _WORD.fullmatch(word)):
        plain = re.sub(re.escape(phrase), "", plain, flags=re.IGNORECASE)
    for name in filter(str.isalpha, long):
        # A name may be written in several words.
        spread = r"[\W_]?".join(name)
        plain = re.sub(rf"(?<![^\W_]){spread}(?![^\W_])", "", plain, flags=re.IGNORECASE)
    plain = _REPEATED.sub(r"\1", _without_others(_WORD.sub(kept, plain), others))
    return " ".join(plain.split())[:_MOST].strip(_ENDS)


def _without_others(text: str, names: Collection[str]) -> str:
    if not names:
        return text
    found = list(_WORD.finditer(text))
    dropped: set[int] = set()
    for start, match in enumerate(found):
        if any(_is_name(part, names) for part in _parts(match[0])):
            dropped.add(start)
        for end in range(start + 2, min(start + _APART, len(found)) + 1):
            words = [each[0] for each in found[start:end]]
            joined = "".join(words)
            if _is_name(" ".join(words), names) or (len(joined) >= _WITHIN and _is_name(joined, names)):
                dropped.update(range(start, end))
    for place in sorted(dropped, reverse=True):
        text = text[: found[place].start()] + text[found[place].end() :]
    return text


def _is_name(text: str, names: Collection[str]) -> bool:
    # Okafors is of Okafor.
    return any(word in names or word.removesuffix("s") in names for word in spellings(text.casefold()))


def _parts(word: str) -> list[str]:
    """A word, and the parts of it that digits and capitals set apart."""
    parts = [word]
    for run in _PARTS.findall(word):
        starts = [0, *(at for at in range(1, len(run)) if run[at].isupper() and run[at - 1].islower()), len(run)]
        parts.extend(run[start:end] for start, end in pairwise(starts))
    return parts


def _all_spellings(words: Collection[str]) -> frozenset[str]:
    return frozenset(spelling for word in words for spelling in spellings(word)) - {""}


def spellings(word: str) -> Iterator[str]:
    """A word as it is, with its umlauts spelled out, and without marks on its letters."""
    yield word
    if not word.isascii():
        yield word.translate(_SPELLED_OUT)
        yield "".join(letter for letter in unicodedata.normalize("NFD", word) if not unicodedata.combining(letter))


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold()


def _has_digit(word: str) -> bool:
    return any(map(str.isdigit, word))


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
