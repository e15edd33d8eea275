"""Enhanced multi-frame images: what their functional groups say of each frame."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

from fewlabel.data.io.dicom.tags import number_of, numbers_of, texts_of

#: What may tell frames at one place apart: its functional group, its tag, how it is called.
_MARKS = (
    ("MRImageFrameTypeSequence", "FrameType", "image type"),
    ("CTImageFrameTypeSequence", "FrameType", "image type"),
    ("PETFrameTypeSequence", "FrameType", "image type"),
    ("MREchoSequence", "EffectiveEchoTime", "echo time"),
    ("FrameContentSequence", "TemporalPositionIndex", "time point"),
    ("MRDiffusionSequence", "DiffusionBValue", "b-value"),
    ("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime", "trigger time"),
    ("FrameContentSequence", "StackID", "stack"),
    ("FrameContentSequence", "FrameAcquisitionNumber", "acquisition"),
)
#: Tags of dimensions that say where a frame lies, not what sets it apart.
_PLACE = frozenset({0x00200032, 0x00209057, 0x00200037})


@dataclass(frozen=True)
class Groups:
    """The functional groups of a frame: its own, and those that all share."""

    own: Any
    shared: Any

    def item(self, name: str) -> Any:
        """The group of that name; empty where there is none."""
        for groups in (self.own, self.shared):
            sequence = groups.get(name) if groups is not None else None
            if sequence:
                return sequence[0]
        return {}


def functional_groups(dataset: Any) -> list[Groups]:
    """Of each frame, in the order of the file; none for a file that has no such groups."""
    own, shared = dataset.get("PerFrameFunctionalGroupsSequence"), dataset.get("SharedFunctionalGroupsSequence")
    first = shared[0] if shared else None
    return [Groups(item, first) for item in own or ()]


def frame_values(dataset: Any, groups: Groups) -> dict[str, Any]:
    """What a :class:`~fewlabel.data.io.dicom.headers.Plane` holds of a frame."""
    measures, rescale = groups.item("PixelMeasuresSequence"), groups.item("PixelValueTransformationSequence")
    thickness = number_of(measures, "SpacingBetweenSlices") or number_of(measures, "SliceThickness")
    marks: dict[str, Hashable] = {}
    for sequence, tag, called in _MARKS:
        if value := texts_of(groups.item(sequence), tag):
            marks[called] = value[2:] if called == "image type" else value
    marks.update(_dimensions(dataset, groups))
    return {
        "position": numbers_of(groups.item("PlanePositionSequence"), "ImagePositionPatient", 3),
        "orientation": numbers_of(groups.item("PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        "spacing": numbers_of(measures, "PixelSpacing", 2),
        "thickness": None if thickness is None else abs(thickness),
        "slope": number_of(rescale, "RescaleSlope") or 1.0,
        "intercept": number_of(rescale, "RescaleIntercept") or 0.0,
        "marks": marks,
    }


def _dimensions(dataset: Any, groups: Groups) -> dict[str, Hashable]:
    """Index of the frame along each dimension that the file names, but where it lies."""
    pointers = [int(item.get("DimensionIndexPointer") or 0) for item in dataset.get("DimensionIndexSequence") or ()]
    indices = texts_of(groups.item("FrameContentSequence"), "DimensionIndexValues")
    return {
        f"dimension {number}": index
        for number, (pointer, index) in enumerate(zip(pointers, indices, strict=False), start=1)
        if pointer not in _PLACE
    }
