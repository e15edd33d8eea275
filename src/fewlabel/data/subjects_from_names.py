"""Who was scanned: guessed from case names where a data set does not say, and one person under several spellings."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from fewlabel.core.whole_numbers import is_whole_number
from fewlabel.data.catalog import Catalog

Subjects = Literal["auto", "as_written"]
#: What a slice is called before its number.
SLICE_WORDS = "slices?|slc|sl|z|schicht|coupe|corte"
_DAY, _MONTH, _YEAR = r"(?:0[1-9]|[12]\d|3[01])", r"(?:0[1-9]|1[0-2])", r"(?:19|20)\d\d"
#: A day as people write it into names, with the time or without.
DATE = (
    rf"(?:{_YEAR}{_MONTH}{_DAY}|{_YEAR}[-_.]{_MONTH}[-_.]{_DAY}|{_DAY}[-_.]{_MONTH}[-_.]{_YEAR})"
    r"(?:[T_-]?\d{2}[-_.]?\d{2}(?:[-_.]?\d{2})?)?"
)
_TOKEN = re.compile(
    r"(?P<subject>.+?)[_-](?P<token>"
    rf"(?:frame|fr|phase|ph|time|t|tp|visit|vis|v|session|ses|scan|series|rep|{SLICE_WORDS})[_-]?\d+"
    rf"|{DATE}|t1c|t1ce|t1w|t1gd|t2w|t2s|flair|pdw?|adc|dwi|swi|dce|ct|cta|pet|mra?|mri|lge|cine"
    r"|ed|es|dia|sys|diastole|systole|baseline|followup|follow-up|pre|post)$",
    re.IGNORECASE,
)
#: A day within a name, and what tells scans of that day apart: 0012_2020-01-03_T1, 0012_20200301_2.
_DATED = re.compile(rf"(?P<subject>.+?)[_\-. ]{DATE}[_\-. ].+$")
#: Names of the Brain Imaging Data Structure begin with the subject: sub-01_ses-2_T2w.
_BIDS = re.compile(r"(?P<subject>sub-[A-Za-z0-9]+)(?=_|$)")
_PHASES = {"ed": "ED", "dia": "ED", "diastole": "ED", "es": "ES", "sys": "ES", "systole": "ES"}
_RUNS = re.compile(r"[^\W\d_]+|\d+")
_SIDES = {
    **dict.fromkeys(("l", "lh", "lt", "left", "links", "gauche", "izquierda", "izquierdo", "izq", "os"), "left"),
    **dict.fromkeys(
        ("r", "rh", "rt", "right", "rechts", "droite", "droit", "derecha", "derecho", "der", "od"), "right"
    ),
}
#: A letter or side that follows a number at the end of a name: 01L.
_AFTER_NUMBER = re.compile(rf"(.*\d)({'|'.join(word for word in _SIDES if len(word) > 1)}|[a-z])$", re.IGNORECASE)
_WORDS = re.compile(r"[^\W_]+")
_MOST = 3
Key = tuple[str | int, ...]


def guess_subjects(cases: Sequence[str]) -> dict[str, str]:
    """Case name → subject.

    The subject of a BIDS name is its entity ``sub``. Elsewhere trailing frames, phases, slices, sequences, dates,
    visits and sessions (``_frame01``, ``_ED``, ``_FLAIR``, ``-ses2``, ``_baseline`` …), and a date with what follows
    it (``0012_2020-01-03_T1``), are taken off every name that has one, as soon as such a token holds siblings apart
    somewhere in the data set: two cases that differ in it only. So two frames of one patient are one subject and can
    never be split; without siblings a name is its own subject.
    """
    bids = {case: match["subject"] for case in cases if (match := _BIDS.match(case))}
    names = {case: case for case in cases if case not in bids}
    for pattern in (_DATED, _TOKEN):
        while shorter := _without(pattern, set(names.values())):
            names = {case: shorter.get(name, name) for case, name in names.items()}
    return {case: bids.get(case) or names[case] for case in cases}


def is_side(name: str) -> bool:
    """Whether a name says a side of the body and nothing else."""
    return name.lower() in _SIDES


def _without(pattern: re.Pattern[str], names: Iterable[str]) -> dict[str, str]:
    """Name → what it is without a token, of those that have one; empty where it holds no siblings apart."""
    stems = {name: match["subject"] for name in names if (match := pattern.match(name))}
    counts = Counter(map(spelling_key, stems.values()))
    siblings = any(count > 1 for count in counts.values())
    # A word that all names begin with, as in scan_20200103_1, is no person.
    alone = pattern is _DATED and len(counts) == 1 and not any(map(str.isdigit, next(iter(stems.values()))))
    return stems if siblings and not alone else {}


def guess_phases(cases: Sequence[str]) -> dict[str, str | None]:
    """Case name → ``ED`` or ``ES`` where its last token says so (``_ED``, ``_systole`` …), else None."""
    tokens = {case: _TOKEN.match(case) for case in cases}
    return {case: _PHASES.get(match["token"].lower()) if match else None for case, match in tokens.items()}


def spelling_key(name: str) -> Key:
    """What a name is without case, separators between letters and numbers, and leading zeros.

    ``P01``, ``p-1`` and ``P_001`` have one key; ``1-12`` and ``11-2`` have not.
    """
    key: list[str | int] = []
    for run in _RUNS.findall(name):
        if is_whole_number(run):
            key.append(int(run))
        elif key and isinstance(key[-1], str):
            key[-1] += run.lower()
        else:
            key.append(run.lower())
    return tuple(key) or (name,)


def one_person(names: Sequence[str]) -> dict[str, str]:
    """Name → the name of its person: one for all that are equal after case, separators, zeros and side.

    A side (``_L`` and ``_R``, ``left`` and ``right``) counts for nothing where names differ in it alone, as those of
    two eyes of a person do; where other single letters stand at its place it is a letter like them.

    Args:
        names: Subjects as written.
    """
    written = sorted(set(names))
    split: dict[str, tuple[str | None, str]] = dict.fromkeys(written, (None, ""))
    letters: set[Key] = set()
    sides: dict[Key, set[str]] = defaultdict(set)
    for name in written:
        for rest, word in _without_letter(name):
            if word not in _SIDES:
                letters.add(spelling_key(rest))
            elif split[name][0] is None:
                split[name] = rest, _SIDES[word]
    for stem, side in split.values():
        if stem is not None and spelling_key(stem) not in letters:
            sides[spelling_key(stem)].add(side)
    known = {spelling_key(name) for name in written}
    groups: dict[Key, list[str]] = defaultdict(list)
    stems: dict[Key, str] = {}
    for name, (stem, side) in split.items():
        key = spelling_key(name)
        if stem is not None:
            bare = spelling_key(stem)
            if len(sides[bare]) > 1 or (sides[bare] and bare in known):
                key = bare
                stems.setdefault(key, stem)
            else:
                key = (*bare, "", side)
        groups[key].append(name)
    counts = Counter(names)
    persons = {}
    for key, group in groups.items():
        plain = [name for name in group if key not in stems or spelling_key(name) == key]
        person = max(plain, key=lambda name: counts[name]) if plain else stems[key]
        persons.update(dict.fromkeys(group, person))
    return persons


def with_one_subject_each(catalog: Catalog, subjects: Subjects = "auto") -> Catalog:
    """The catalog with one subject for each person, see :func:`one_person`, and a note where names were joined.

    Args:
        catalog: As a reader made it.
        subjects: ``as_written`` to leave subjects as the reader has them.
    """
    persons = one_person([case.subject for case in catalog.cases]) if subjects == "auto" else {}
    joined: dict[str, list[str]] = defaultdict(list)
    for name, person in persons.items():
        joined[person].append(name)
    several = {person: names for person, names in joined.items() if len(names) > 1}
    if not several:
        return catalog
    cases = tuple(replace(case, subject=persons[case.subject]) for case in catalog.cases)
    return replace(catalog, cases=cases, notes=(*catalog.notes, _note(several)))


def _note(joined: Mapping[str, Sequence[str]]) -> str:
    shown = "; ".join(f"{', '.join(names)} as {person}" for person, names in list(joined.items())[:_MOST])
    more = f" and {len(joined) - _MOST} more" if len(joined) > _MOST else ""
    return (
        f"subjects whose names differ in case, separators, zeros or side alone are one person: {shown}{more}. "
        "prepare.subject_names=as_written keeps them apart"
    )


def _without_letter(name: str) -> Iterator[tuple[str, str]]:
    """A name without each side and each single letter that stands for itself in it, and these in lower case."""
    if match := _AFTER_NUMBER.match(name):
        yield match[1], match[2].lower()
    words = list(_WORDS.finditer(name))
    for word in reversed(words) if len(words) > 1 else ():
        low = word[0].lower()
        if low in _SIDES or (len(low) == 1 and low.isalpha()):
            rest = (name[: word.start()].rstrip("_-. "), name[word.end() :].lstrip("_-. "))
            yield "_".join(filter(None, rest)), low
