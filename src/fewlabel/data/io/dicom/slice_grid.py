"""Where points and frames of other objects lie on the slices of a volume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fewlabel.data.io.dicom.headers import Plane
from fewlabel.data.io.dicom.splitting import normal_of, offsets_of

#: How far from a slice something may lie that is drawn on it, in distances between slices.
OFF_PLANE = 0.1
#: How far the pixels of two grids may lie apart that are the same, in pixels.
_OFF_GRID = 0.1


@dataclass(frozen=True)
class SliceGrid:
    """The slices of a volume as a grid to draw on.

    Attributes:
        planes: The slices, in their order.
        offsets: Where they lie along their normal, in mm.
        distance: Between two of them, in mm.
    """

    planes: Sequence[Plane]
    offsets: NDArray[np.float64]
    distance: float

    @classmethod
    def of(cls, planes: Sequence[Plane]) -> SliceGrid:
        """The grid of slices that are laid out without a fault."""
        offsets = offsets_of(planes)
        distance = float(np.median(np.diff(offsets))) if len(planes) > 1 else (planes[0].thickness or 1.0)
        return cls(planes, offsets, distance)

    def slice_of(self, points: NDArray[np.float64]) -> tuple[int | None, bool]:
        """Number of the slice that points lie on; None where they lie on none, and whether they lie beyond all.

        Args:
            points: (n, 3) in mm.
        """
        along = points @ normal_of(self.planes[0])
        index = int(np.abs(self.offsets - along.mean()).argmin())
        if np.abs(along - self.offsets[index]).max() <= OFF_PLANE * self.distance:
            return index, False
        half = self.distance / 2
        return None, bool(along.max() < self.offsets[0] - half or along.min() > self.offsets[-1] + half)

    def pixels_of(self, points: NDArray[np.float64], index: int) -> NDArray[np.float64]:
        """Column and row, in pixels, of points (n, 3) in mm on a slice."""
        plane = self.planes[index]
        axes = np.array(plane.orientation, dtype=np.float64).reshape(2, 3)
        down, across = plane.spacing or (1.0, 1.0)
        pixels: NDArray[np.float64] = (points - np.array(plane.position)) @ axes.T / (across, down)
        return pixels

    def paste(self, mask: NDArray[np.bool_], frame: Plane, onto: NDArray[np.bool_]) -> str:
        """Add a frame to a mask (z, y, x) at its place.

        Args:
            mask: (rows, columns) of the frame.
            frame: Where it lies: its rows and columns may run another way than those of the slices, and it may cover a
                part of a slice.
            onto: The mask.

        Returns:
            Empty; ``beyond`` for a frame beyond the first or last slice, ``off`` for one between two, ``grid`` where
            its pixels are not those of the slices, ``nowhere`` where it does not say where it lies.
        """
        if frame.position is None or frame.orientation is None or frame.spacing is None:
            return "nowhere"
        rows, columns = mask.shape
        axes = np.array(frame.orientation, dtype=np.float64).reshape(2, 3)
        down, across = frame.spacing
        first = np.array(frame.position, dtype=np.float64)
        far = np.array([(columns - 1) * across, (rows - 1) * down])
        ends = first + np.array([[0.0, 0.0], [far[0], 0.0], [0.0, far[1]]]) @ axes
        index, beyond = self.slice_of(ends)
        if index is None:
            return "beyond" if beyond else "off"
        start, along_columns, along_rows = self.pixels_of(ends, index)
        steps = np.stack([along_columns - start, along_rows - start]) / [[max(1, columns - 1)], [max(1, rows - 1)]]
        if columns == 1 or rows == 1:
            steps = self.pixels_of(first + axes * [[across], [down]], index) - start
        whole, signs = np.rint(start).astype(int), np.rint(steps).astype(int)
        errors = np.abs(steps - signs) * [[columns], [rows]]
        turned = bool(signs[0, 0] == 0)
        one_to_one = np.abs(signs).sum(axis=0).tolist() == [1, 1] == np.abs(signs).sum(axis=1).tolist()
        if not one_to_one or max(errors.max(), np.abs(start - whole).max()) > _OFF_GRID:
            return "grid"
        mask = mask.T if turned else mask
        # After that, rows of the mask run along rows of the slice, forwards or backwards.
        x, y = whole.tolist()
        if signs[:, 0].sum() < 0:
            mask, x = mask[:, ::-1], x - mask.shape[1] + 1
        if signs[:, 1].sum() < 0:
            mask, y = mask[::-1], y - mask.shape[0] + 1
        height, width = onto.shape[1:]
        top, left = max(0, y), max(0, x)
        bottom, right = min(height, y + mask.shape[0]), min(width, x + mask.shape[1])
        if top < bottom and left < right:
            onto[index, top:bottom, left:right] |= mask[top - y : bottom - y, left - x : right - x]
        return ""
