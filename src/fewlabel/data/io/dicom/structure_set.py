"""DICOM structure sets (RTSTRUCT): closed contours of structures, drawn on the slices of a volume."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.dicom.contours import fill_contours
from fewlabel.data.io.dicom.quiet_pydicom import quiet
from fewlabel.data.io.dicom.slice_grid import SliceGrid
from fewlabel.data.io.dicom.tags import read_dataset, text_of, texts_of, whole_of
from fewlabel.data.io.dicom.undrawn_structures import Problems

#: Types of contours that enclose something; ``CLOSEDPLANAR_XOR`` is the standard's own way to say that holes are holes.
_CLOSED = frozenset({"CLOSED_PLANAR", "CLOSEDPLANAR_XOR", ""})
_DECIMALS = 3
_POINT = "POINT"


class StructureSetFile:
    """The contours of a structure set.

    Args:
        file: The file.
        where: What messages call it.

    Raises:
        DataError: If it cannot be read, or a contour has no points.
    """

    @quiet()
    def __init__(self, file: Path, where: str) -> None:
        self.where = where
        try:
            dataset = read_dataset(file)
        except (OSError, ValueError) as error:
            raise DataError("A mask cannot be read:", [Fault("its file is damaged", where, "Copy it again")]) from error
        self._contours: dict[int, list[tuple[str, NDArray[np.float64]]]] = defaultdict(list)
        for region in dataset.get("ROIContourSequence") or ():
            number = whole_of(region, "ReferencedROINumber") or 0
            for contour in region.get("ContourSequence") or ():
                kind = text_of(contour, "ContourGeometricType").upper()
                self._contours[number].append((kind, _points(texts_of(contour, "ContourData"), where)))

    def draw(self, number: int, grid: SliceGrid, onto: NDArray[np.bool_], problems: Problems) -> None:
        """Add a structure to a mask: what lies within an odd number of its contours on a slice.

        Args:
            number: Of the structure.
            grid: The slices.
            onto: (z, y, x); what is inside becomes true.
            problems: Takes contours that do not lie on a slice, are open or are points.
        """
        drawn: dict[int, list[NDArray[np.float64]]] = defaultdict(list)
        for kind, points in self._contours.get(number, ()):
            if kind == _POINT:
                problems.count("point")
                continue
            if kind not in _CLOSED:
                problems.count("open")
                continue
            index, beyond = grid.slice_of(points)
            if index is None:
                problems.count("beyond" if beyond else "off")
            else:
                # Corners at centres of pixels are common: what decimals of mm leave must not decide on which side.
                drawn[index].append(grid.pixels_of(points, index).round(_DECIMALS))
        for index, contours in drawn.items():
            onto[index] |= fill_contours(contours, grid.planes[index].shape)


def _points(texts: tuple[str, ...], where: str) -> NDArray[np.float64]:
    """(n, 3) in mm."""
    try:
        numbers = np.array([float(text) for text in texts])
    except ValueError:
        numbers = np.empty(0)
    if not len(numbers) or len(numbers) % 3 or not np.isfinite(numbers).all():
        problem = "has a contour whose data are no points of three numbers each"
        raise DataError("A mask cannot be read:", [Fault(problem, where, "Export the structure set again")])
    return numbers.reshape(-1, 3)
