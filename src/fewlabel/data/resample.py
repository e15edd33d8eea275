"""In-plane resampling as one small matrix per axis: linear, centred, widened when it shrinks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

#: Planes resampled at a time.
_BLOCK = 8


@dataclass(frozen=True)
class AxisRecord:
    """What happened to one in-plane axis; both directions follow from it.

    Attributes:
        pixels: Pixels before.
        spacing: Their size in mm.
        target: Pixel size after, in mm.
        resampled: Pixels after resampling, before the crop: the field of view keeps its centre.
        offset: First resampled pixel inside the crop; negative where the axis is padded.
        size: Pixels after the crop.
    """

    pixels: int
    spacing: float
    target: float
    resampled: int
    offset: int
    size: int

    @classmethod
    def plan(cls, pixels: int, spacing: float, target: float, size: int) -> AxisRecord:
        """Resample ``pixels`` of ``spacing`` mm to ``target`` mm, then crop or pad about the centre to ``size``."""
        resampled = resampled_pixels(pixels, spacing, target)
        return cls(pixels, spacing, target, resampled, (resampled - size) // 2, size)

    def record(self) -> dict[str, int | float]:
        """As JSON-ready values."""
        return asdict(self)

    def forward(self) -> NDArray[np.float32]:
        """Matrix (size, pixels) that takes the original axis to the prepared one; padded rows are zero."""
        matrix = np.zeros((self.size, self.pixels), dtype=np.float32)
        low, high = max(0, self.offset), min(self.resampled, self.offset + self.size)
        whole = linear_weights(self.pixels, self.resampled, self.target / self.spacing)
        matrix[low - self.offset : high - self.offset] = whole[low:high]
        return matrix

    def backward(self) -> NDArray[np.float32]:
        """Matrix (pixels, size) that takes the prepared axis back; a row sums to the share inside the crop."""
        matrix = np.zeros((self.pixels, self.size), dtype=np.float32)
        low, high = max(0, self.offset), min(self.resampled, self.offset + self.size)
        whole = linear_weights(self.resampled, self.pixels, self.spacing / self.target)
        matrix[:, low - self.offset : high - self.offset] = whole[:, low:high]
        return matrix


def resampled_pixels(pixels: int, spacing: float, target: float) -> int:
    """Pixels of ``target`` mm that cover ``pixels`` of ``spacing`` mm, rounded, at least one."""
    return max(1, int(np.floor(pixels * spacing / target + 0.5)))


@lru_cache(maxsize=256)
def linear_weights(source: int, wanted: int, step: float) -> NDArray[np.float32]:
    """Matrix (wanted, source) of linear interpolation between two rows of pixels that share their centre.

    Where pixels grow (``step`` > 1) the triangle is widened by ``step`` so that no pixel is passed over. Positions
    beyond the last pixel centre take its value. Every row sums to 1.

    Args:
        source: Pixels given.
        wanted: Pixels asked for.
        step: Size of a wanted pixel in source pixels.
    """
    place = (np.arange(wanted) - (wanted - 1) / 2) * step + (source - 1) / 2
    place = np.clip(place, 0, source - 1)
    weights = np.clip(1 - np.abs(np.arange(source)[None] - place[:, None]) / max(1.0, step), 0, None)
    weights[weights < 1e-9] = 0
    matrix: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def resample_plane(
    array: NDArray[np.float32], rows: NDArray[np.float32] | csr_array, columns: NDArray[np.float32] | csr_array
) -> NDArray[np.float32]:
    """Apply a row matrix (H, h) and a column matrix (W, w), sparse or not, to the last two axes (h, w) → (H, W).

    The matrices are almost empty, so sparse products beat dense ones, and they leave the cores to the threads that
    work on other volumes (a BLAS would start its own).
    """
    lead, (h, w) = array.shape[:-2], array.shape[-2:]
    planes = array.reshape(-1, h, w)
    tall, wide = csr_array(rows), csr_array(columns)
    out = np.empty(
        (len(planes), rows.shape[0], columns.shape[0]), dtype=np.result_type(array.dtype, rows.dtype, columns.dtype)
    )
    # The copies in between are of some planes at a time, however many the volume has.
    for start in range(0, len(planes), _BLOCK):
        block = np.moveaxis(planes[start : start + _BLOCK], 1, 0)
        count = block.shape[1]
        up = (tall @ block.reshape(h, count * w)).reshape(-1, count, w)
        across = np.ascontiguousarray(up.transpose(2, 1, 0)).reshape(w, -1)
        out[start : start + _BLOCK] = (wide @ across).reshape(-1, count, rows.shape[0]).transpose(1, 2, 0)
    return out.reshape(*lead, rows.shape[0], columns.shape[0])
