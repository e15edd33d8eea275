"""How the scans of a data set that is not prepared yet lie in the plane, from a sample of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fewlabel.core.errors import DataError
from fewlabel.data.catalog import Case
from fewlabel.data.io.volume_reading import read_volume
from fewlabel.data.pose_record import Poses, poses_of
from fewlabel.data.pose_thumbnails import View, evenly, subject_views
from fewlabel.data.preprocess import Plan, ScanPreparation
from fewlabel.data.scan_inspection import CaseFacts, in_threads

#: Subjects whose intensities are read, at most.
MOST_SUBJECTS = 40


def sampled_poses(facts: Sequence[CaseFacts], split: Mapping[str, Any], plan: Plan, workers: int) -> Poses:
    """The poses of the scans of at most 40 subjects, spread evenly; none of the test part, or of no part, is read.

    Args:
        facts: Of each scan; those with faults are passed over.
        split: Parts of the data set.
        plan: The grid to compare them on.
        workers: Threads; each holds one volume at a time.
    """
    parts = split["parts"]
    allowed = {subject for part in ("pretrain", "train", "validation") for subject in parts.get(part, [])}
    groups: dict[str, list[Case]] = {}
    for fact in facts:
        if fact.case.subject in allowed and not fact.faults and fact.geometry is not None:
            groups.setdefault(fact.case.subject, []).append(fact.case)
    subjects = list(groups)
    sampled = [subjects[at] for at in evenly([False] * len(subjects), MOST_SUBJECTS)]
    views: list[View] = []
    for pictures in in_threads(lambda subject: _read(subject, groups[subject], plan), sampled, workers):
        views.extend(pictures)
    return poses_of(views, plan.size, plan.spacing)


def _read(subject: str, cases: Sequence[Case], plan: Plan) -> list[View]:
    """Pictures of a subject's scans; a scan that cannot be read is passed over."""

    def scans() -> Iterator[tuple[str, ScanPreparation, dict[str, Any]]]:
        for case in cases:
            try:
                preparation = ScanPreparation(read_volume(case.images), plan)
            except DataError:
                continue
            yield case.id, preparation, preparation.record
            del preparation

    return subject_views(subject, scans())
