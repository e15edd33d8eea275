"""Whose images a network learnt from: in its own training, and in that of the encoder it started from."""

from __future__ import annotations

from collections.abc import Iterable

from fewlabel.core.artifact.artifact_folder import Artifact

KEY = "image_subjects"


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

    Args:
        subjects: To be scored; of a merged store as ``SET:SUBJECT``.
        met: As :func:`images_met` gives them.
        dataset: Name of the data set to be scored. In a merged store two of one name are numbered.
    """
    known = set(met)
    for name in list(known):
        origin, colon, bare = name.partition(":")
        if colon and dataset in (origin, origin.rstrip("0123456789")):
            known.add(bare)
    return {name for name in subjects if name in known or name.partition(":")[2] in known}
