"""Whose images a network learnt from: in its own training, and in that of the encoder it started from."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fewlabel.core.artifact.artifact_folder import Artifact

KEY = "image_subjects"
#: What a merge puts behind the names of data sets that are called the same.
_NUMBER = re.compile("[1-9][0-9]*")


def images_met(subjects: Iterable[str], encoder: Artifact | None) -> list[str]:
    """Subjects of a run and of the encoder it starts from, sorted; those of a merged store as ``SET:SUBJECT``."""
    return sorted(set(subjects) | (images_of(encoder) if encoder is not None else set()))


def images_of(encoder: Artifact) -> set[str]:
    """Subjects whose images an encoder has met.

    One that does not say so itself is judged by the split of the data it was made from, as far as they are still there.
    """
    facts = encoder.json("encoder.json")
    if KEY in facts:
        return set(facts[KEY])
    subjects: set[str] = set()
    before, prepared = encoder.parent_folder("encoder"), encoder.parent_folder("prepared")
    if before is not None:
        subjects |= images_of(Artifact.bare(before))
    if prepared is not None:
        part_names = encoder.manifest.settings.get("parts", ["pretrain"])
        parts = Artifact.bare(prepared).json("split.json")["parts"]
        subjects |= {subject for name in part_names for subject in parts.get(name, [])}
    return subjects


def met_among(subjects: Iterable[str], met: Iterable[str], dataset: str) -> set[str]:
    """Which subjects of a data set are among those met, be it under the name of a merged store.

    A merged store puts the name of a data set before its subjects, ``SET:SUBJECT``, with a number behind the name where
    several are called so, and a merge of merges puts another one before that. A set may end in a number by itself:
    where it could be either, the subject counts as met.

    Args:
        subjects: To be scored; of a merged store as ``SET:SUBJECT``.
        met: As :func:`images_met` gives them.
        dataset: Name of the data set to be scored; of a merged store ``SET+SET``.
    """
    origins: dict[str, set[str]] = {}
    bare = set(met)
    for name in bare:
        for origin, subject in _readings(name):
            origins.setdefault(subject, set()).add(origin)

    def known(origin: str, subject: str) -> bool:
        return subject in bare or any(_alike(origin, other, dataset) for other in origins.get(subject, ()))

    return {
        name
        for name in subjects
        if any(known(origin, subject) for origin, subject in ((dataset, name), *_readings(name)))
    }


def _readings(name: str) -> list[tuple[str, str]]:
    """Data set and subject that a name of a merged store may stand for: names of either may have a colon, too."""
    words = name.split(":")
    return [(":".join(words[first:end]), ":".join(words[end:])) for end in range(1, len(words)) for first in range(end)]


def _alike(origin: str, other: str, dataset: str) -> bool:
    """Whether two names of data sets may be of one: they are equal, or a merge may have numbered one of them.

    Args:
        origin: Where a subject to be scored is from.
        other: Where one that was met is from.
        dataset: What is scored. Sets that stand side by side in it are not the same.
    """
    if origin == other:
        return True
    if f"+{other}+" in f"+{dataset}+":
        return False
    # What is scored has its own name, and sets in it have those that a merge gave them.
    return _numbered(origin, other) or (origin != dataset and _numbered(other, origin))


def _numbered(name: str, other: str) -> bool:
    return other.startswith(name) and _NUMBER.fullmatch(other.removeprefix(name)) is not None
