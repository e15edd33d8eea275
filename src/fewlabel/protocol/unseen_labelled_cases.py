"""Which scans may be scored: labelled ones of a part of the split that no segmenter under test was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from fewlabel.core.artifact.artifact_folder import Artifact
from fewlabel.core.errors import DataError, Fault, SettingsError
from fewlabel.core.progress import say
from fewlabel.core.suggestions import did_you_mean
from fewlabel.data.io.catalog_paths import is_there
from fewlabel.data.scan_locations import moved_remedy
from fewlabel.data.store import PreparedCase, PreparedStore
from fewlabel.protocol.exposure import KEY, images_of, met_among
from fewlabel.protocol.segmenter_store_compatibility import plan_differences


class SegmenterFacts(Protocol):
    """What must be known of a segmenter to score it."""

    @property
    def artifact(self) -> Artifact:
        """As it was opened."""

    @property
    def facts(self) -> Mapping[str, Any]:
        """Content of ``segmenter.json``."""


def subjects_of(store: PreparedStore, part: str) -> tuple[str, ...]:
    """The subjects of a part of the split.

    Raises:
        SettingsError: If there is no such part.
    """
    parts = store.split["parts"]
    if part not in parts:
        fault = Fault(f'the split has no part "{part}"', "part", did_you_mean(part, parts))
        raise SettingsError("These settings are not valid:", [fault])
    return tuple(parts[part])


def scorable_cases(
    store: PreparedStore, part: str, subjects: Sequence[str], arms: Mapping[str, SegmenterFacts], *, label_files: bool
) -> list[PreparedCase]:
    """The labelled cases to score, once it is sure that they may be scored.

    Args:
        store: Prepared store.
        part: The part of the split, for messages and for what its subjects must not have met.
        subjects: Its subjects.
        arms: Name → segmenter.
        label_files: Whether the label files are needed.

    Raises:
        DataError: Naming each arm made for other pixels, each that has met a subject, and each label that is gone; or
            if no case has a label.
    """
    there = [case for case in store.cases if case.subject in set(subjects)]
    cases = [case for case in there if case.label is not None]
    faults: list[Fault] = []
    if not cases:
        present = f"{len(there)} scans, none labelled" if there else "no scans"
        faults.append(Fault(f"part {part} must hold labelled scans, but holds {present}", str(store.folder)))
    elif len(cases) < len(there):
        say(f"{len(there) - len(cases)} of {len(there)} scans have no label and are not scored.")
    for name, arm in arms.items():
        faults.extend(_plan_faults(store, name, arm))
        faults.extend(_leaks(name, arm, {case.subject for case in cases}, part, _dataset(store)))
    for case in cases:
        if not case.record:
            faults.append(Fault("has no record of its geometry", f"case {case.id}", "Prepare the scans again"))
        elif label_files and not is_there(Path(case.label or "")):
            remedy = f"{moved_remedy(store.folder)}. To do without, score with grid=prepared"
            faults.append(Fault(f"its label file {case.label} is gone", f"case {case.id}", remedy))
    if faults:
        raise DataError("The evaluation cannot be done:", faults)
    return cases


def _dataset(store: PreparedStore) -> str:
    """Its name, as a merge gives it."""
    return str(store.plan.get("dataset", store.folder.name))


def _plan_faults(store: PreparedStore, name: str, arm: SegmenterFacts) -> list[Fault]:
    return [
        Fault(
            f"the {name} was trained on scans that were prepared differently: {key} {then} then, {now} now",
            str(arm.artifact.folder),
            f"Prepare these scans with the segmenter's {key}",
        )
        for key, (then, now) in plan_differences(arm.facts, store.plan).items()
    ]


def _leaks(name: str, arm: SegmenterFacts, subjects: set[str], part: str, dataset: str) -> list[Fault]:
    """Subjects of the evaluation that the arm learnt from."""
    met = {
        "labels were trained on": arm.facts.get("labelled_subjects", ()),
        "labels chose the model": arm.facts.get("validation_subjects", ()),
    }
    if part == "test":
        met["images entered training"] = _images(arm)
    return [
        Fault(
            f"the {name} cannot be scored on {', '.join(sorted(both))}, whose {how}",
            str(arm.artifact.folder),
            "Score on other subjects, or train again without them",
        )
        for how, known in met.items()
        if (both := met_among(subjects, known, dataset))
    ]


def _images(arm: SegmenterFacts) -> Sequence[str]:
    """Subjects whose images entered the training of a segmenter or the pre-training of its encoder."""
    if KEY in arm.facts:
        return list(arm.facts[KEY])
    encoder = arm.artifact.parent_folder("encoder")
    return sorted(images_of(Artifact.bare(encoder))) if encoder is not None else ()
