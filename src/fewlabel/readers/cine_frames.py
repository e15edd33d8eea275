"""Frames of 4D images as scans of their own, for readers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.catalog import Case, Column
from fewlabel.data.io.axis_count import MOST_CHANNELS, fourth_axis, frames_with_a_mask, look_alike
from fewlabel.data.io.catalog_paths import is_file_path, scan_stem
from fewlabel.data.io.composite_paths import Frame

#: Parts of the time that an image spans, as values of the column ``phase``.
PARTS = 4
FourthAxis = Literal["auto", "time", "channels"]
_FRAME = re.compile(r"(?:frame|fr|phase|time|t)[_-]?(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Expanded:
    """Cases, with a frame each where the images are 4D, and what was assumed."""

    cases: tuple[Case, ...]
    columns: tuple[Column, ...] = ()
    notes: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()


def with_frames(
    cases: Sequence[Case],
    *,
    fourth_axis: FourthAxis = "auto",
    masks: Mapping[str, Sequence[Path]] | None = None,
    remedy: str = "",
) -> Expanded:
    """Cases whose image is 4D taken apart into a case for each frame.

    A 4D mask labels the frames in which it is not empty; a mask whose name holds ``frame03`` labels the third; one that
    says nothing the first, which is noted. Other frames are unlabelled. ``phase`` is the quarter of the frames that
    one lies in, 0 to 3. Images of several files, and parts of files, stay as they are.

    Args:
        cases: As a reader made them.
        fourth_axis: What the fourth axis holds. ``auto``: time where it is longer than 4, where the mask is 4D too, or
            where the frames of the first such image look alike; else channels.
        masks: All masks of each case by id, where there may be one for each of several frames.
        remedy: How to say otherwise, for the notes.
    """
    lengths = {case.id: _length(case) for case in cases}
    if fourth_axis == "channels" or max(lengths.values(), default=1) == 1:
        return Expanded(tuple(cases))
    notes: list[str] = []
    faults: list[Fault] = []
    four = [case for case in cases if lengths[case.id] > 1]
    short = [case for case in four if lengths[case.id] <= MOST_CHANNELS]
    timed = fourth_axis == "time" or _in_time(short, notes, remedy)
    # A data set may have phases of its own.
    name = "quarter" if any("phase" in case.metadata for case in cases) else "phase"
    out: list[Case] = []
    unsaid: list[str] = []
    for case in cases:
        count = lengths[case.id]
        if count == 1 or (count <= MOST_CHANNELS and not timed):
            out.append(case)
            continue
        labels = _labels(case, count, (masks or {}).get(case.id, ()), faults, unsaid)
        out.extend(_frame(case, index, count, labels.get(index), name) for index in range(count))
    if unsaid:
        notes.append(
            f"{len(unsaid)} masks of 4D images do not say which frame they are of, such as {unsaid[0]}: taken as "
            f"the first. {remedy}".strip()
        )
    apart = len(out) > len(cases)
    if apart:
        labelled = sum(case.label is not None for case in out)
        notes.append(f"frames of 4D images are scans: {len(out)}, of which {labelled} have a label")
    return Expanded(
        tuple(out),
        (Column(name, "ordinal", "quarter of the frames of the image"),) if apart else (),
        tuple(notes),
        tuple(faults),
    )


def _length(case: Case) -> int:
    return fourth_axis(case.images[0]) if len(case.images) == 1 and is_file_path(case.images[0]) else 1


def _in_time(short: Sequence[Case], notes: list[str], remedy: str) -> bool:
    """Whether a short fourth axis is time."""
    if not short:
        return True
    if any(case.label is not None and is_file_path(case.label) and fourth_axis(case.label) > 1 for case in short):
        return True
    image = short[0].images[0]
    alike = look_alike(image)
    what = "look alike: taken as frames in time" if alike else "differ: taken as channels"
    notes.append(f"{len(short)} images are 4D, such as {image}, whose 3D images {what}. {remedy}".strip())
    return alike


def _labels(case: Case, count: int, masks: Sequence[Path], faults: list[Fault], unsaid: list[str]) -> dict[int, Path]:
    """Frame, from 0 → its mask."""
    labels: dict[int, Path] = {}
    for mask in masks or (() if case.label is None else (case.label,)):
        if not is_file_path(mask):
            labels[0] = mask
            continue
        long = fourth_axis(mask)
        named = _FRAME.search(scan_stem(mask).removeprefix(scan_stem(case.images[0])))
        if long > 1:
            if long != count:
                faults.append(Fault(f"has {long} frames, but {case.images[0]} has {count}", str(mask)))
                continue
            try:
                labels.update({index: Frame(mask, index).path for index in frames_with_a_mask(mask)})
            except DataError as error:
                faults.extend(error.faults)
        elif named is not None:
            index = int(named[1]) - 1
            if not 0 <= index < count:
                problem = f"names frame {index + 1}, but {case.images[0]} has {count}"
                faults.append(Fault(problem, str(mask), "Correct its name"))
                continue
            labels[index] = mask
        elif mask == case.label:
            unsaid.append(str(mask))
            labels.setdefault(0, mask)
    return labels


def _frame(case: Case, index: int, count: int, label: Path | None, name: str) -> Case:
    return replace(
        case,
        id=f"{case.id}_frame{index + 1:02d}",
        images=(Frame(case.images[0], index).path,),
        label=label,
        metadata={**case.metadata, name: index * PARTS // count},
    )
