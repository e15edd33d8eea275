"""In-plane resampling as one small matrix per axis: linear, centred, widened when it shrinks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

#: Planes resampled at a time.
_BLOCK = 8
#: Entries of a matrix of weights that are there at a time, before the zeros are left out.
_ENTRIES = 1 << 18


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

    def forward(self) -> csr_array:
        """Matrix (size, pixels) that takes the original axis to the prepared one; padded rows are zero."""
        whole = linear_weights(self.pixels, self.resampled, self.target / self.spacing)
        return _within(whole, self.offset, self.size)

    def backward(self) -> csr_array:
        """Matrix (pixels, size) that takes the prepared axis back; a row sums to the share inside the crop."""
        whole = linear_weights(self.resampled, self.pixels, self.spacing / self.target)
        return csr_array(_within(csr_array(whole.T), self.offset, self.size).T)


def _within(matrix: csr_array, first: int, count: int) -> csr_array:
    """So many rows of a matrix from one of them on; rows that it does not have are zero."""
    low, high = max(0, first), min(matrix.shape[0], first + count)
    inside, above, below = matrix[low:high], low - first, first + count - high
    ends = np.pad(inside.indptr, (above, below), mode="edge")
    return csr_array((inside.data, inside.indices, ends), shape=(count, matrix.shape[1]))


def resampled_pixels(pixels: int, spacing: float, target: float) -> int:
    """Pixels of ``target`` mm that cover ``pixels`` of ``spacing`` mm, rounded, at least one."""
    return max(1, int(np.floor(pixels * spacing / target + 0.5)))


@lru_cache(maxsize=256)
def linear_weights(source: int, wanted: int, step: float) -> csr_array:
    """Sparse matrix (wanted, source) of linear interpolation between two rows of pixels that share their centre.

    Where pixels grow (``step`` > 1) the triangle is widened by ``step`` so that no pixel is passed over. Positions
    beyond the last pixel centre take its value. Every row sums to 1.

    Args:
        source: Pixels given.
        wanted: Pixels asked for.
        step: Size of a wanted pixel in source pixels.
    """
    place = (np.arange(wanted) - (wanted - 1) / 2) * step + (source - 1) / 2
    place = np.clip(place, 0, source - 1)
    # The header of a picture may say 60 000 rows: a full matrix of them would take 29 GB.
    together = max(1, _ENTRIES // source)
    matrix: csr_array = vstack(
        [_rows_of_weights(place[start : start + together], source, step) for start in range(0, wanted, together)],
        format="csr",
    )
    matrix.data.setflags(write=False)
    return matrix


def _rows_of_weights(place: NDArray[np.float64], source: int, step: float) -> csr_array:
    weights = np.clip(1 - np.abs(np.arange(source)[None] - place[:, None]) / max(1.0, step), 0, None)
    weights[weights < 1e-9] = 0
    return csr_array((weights / weights.sum(1, keepdims=True)).astype(np.float32))


def row_sums(matrix: csr_array) -> NDArray[np.float32]:
    """Sum of each row, added in the order of a full matrix, so that it is the same to the bit."""
    together = max(1, _ENTRIES // matrix.shape[1])
    starts = range(0, matrix.shape[0], together)
    return np.concatenate([matrix[start : start + together].toarray().sum(1) for start in starts])


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
