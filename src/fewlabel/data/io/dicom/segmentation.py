"""DICOM segmentations (SEG): frames of bits, of shares or of segment numbers, drawn on the slices of a volume."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.dicom.headers import Plane
from fewlabel.data.io.dicom.multiframe import frame_values, functional_groups
from fewlabel.data.io.dicom.pixels import frame_reader
from fewlabel.data.io.dicom.quiet_pydicom import quiet
from fewlabel.data.io.dicom.slice_grid import SliceGrid
from fewlabel.data.io.dicom.tags import number_of, read_dataset, text_of, whole_of
from fewlabel.data.io.dicom.undrawn_structures import Problems

#: Share of a voxel from which it counts as inside, where a segmentation holds shares.
INSIDE = 0.5


class SegmentationFile:
    """A DICOM segmentation, of whose frames one is unpacked at a time.

    Args:
        file: The file.
        where: What messages call it.

    Raises:
        DataError: If it cannot be read, or is of a type that is not known.
    """

    @quiet()
    def __init__(self, file: Path, where: str) -> None:
        self.where = where
        try:
            dataset = read_dataset(file, pixels=True)
        except (OSError, ValueError) as error:
            raise DataError("A mask cannot be read:", [Fault("its file is damaged", where, "Copy it again")]) from error
        self.type = text_of(dataset, "SegmentationType").upper()
        if self.type not in {"BINARY", "FRACTIONAL", "LABELMAP"}:
            problem = "is neither a binary or fractional segmentation nor a label map (SegmentationType)"
            fault = Fault(problem, where, "Export it as a binary segmentation")
            raise DataError("A mask cannot be read:", [fault])
        self._scale = number_of(dataset, "MaximumFractionalValue") or 1.0
        rows, columns = whole_of(dataset, "Rows") or 0, whole_of(dataset, "Columns") or 0
        groups = functional_groups(dataset)
        places = (frame_values(dataset, group) for group in groups)
        planes = (
            Plane(file, index, len(groups), "", None, (rows, columns), **place) for index, place in enumerate(places)
        )
        self._frames = list(zip(map(_segment, groups), planes, strict=True))
        self._pixels = frame_reader(dataset, where)

    def draw(self, number: int, grid: SliceGrid, onto: NDArray[np.bool_], problems: Problems) -> None:
        """Add a segment to a mask.

        Args:
            number: Of the segment.
            grid: The slices.
            onto: (z, y, x); what is inside becomes true.
            problems: Takes frames that do not lie on the slices.

        Raises:
            DataError: If its pixels cannot be unpacked.
        """
        for mask, frame in self._of_segment(number):
            if mask.any():
                problems.count(grid.paste(mask, frame, onto))

    def _of_segment(self, number: int) -> Iterator[tuple[NDArray[np.bool_], Plane]]:
        for segment, frame in self._frames:
            if self.type == "LABELMAP":
                yield self._pixels(frame.frame) == number, frame
            elif segment == number:
                pixels = self._pixels(frame.frame)
                yield (pixels >= INSIDE * self._scale if self.type == "FRACTIONAL" else pixels != 0), frame


def _segment(group: Any) -> int | None:
    return whole_of(group.item("SegmentIdentificationSequence"), "ReferencedSegmentNumber")
