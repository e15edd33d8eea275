"""In-plane resampling as one small matrix per axis: linear, centred, widened when it shrinks."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

#: Planes resampled at a time.
_BLOCK = 8
#: Entries of a matrix of weights that are there at a time, before the zeros are left out.
_ENTRIES = 1 << 18
#: Weights below are none.
_LEAST = 1e-9
#: Longest piece of a row that NumPy adds up without halving it.
_PIECE = 128


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
    reach = max(1.0, step)
    # Of each row the pixels that the triangle may reach alone: a full row has as many as the axis.
    width = min(source, 2 * int(np.ceil(min(reach, source))) + 1)
    first = np.clip(np.ceil(place - reach).astype(np.int32), 0, source - width)
    together = max(1, _ENTRIES // width)
    matrix: csr_array = vstack(
        [
            _rows_of_weights(place[start : start + together], first[start : start + together], width, source, reach)
            for start in range(0, wanted, together)
        ],
        format="csr",
    )
    sums = row_sums(matrix)
    made = csr_array(
        ((matrix.data / np.repeat(sums, np.diff(matrix.indptr))).astype(np.float32), matrix.indices, matrix.indptr),
        shape=matrix.shape,
    )
    made.data.setflags(write=False)
    return made


def _rows_of_weights(
    place: NDArray[np.float64], first: NDArray[np.int32], width: int, source: int, reach: float
) -> csr_array:
    """Weights, before they are shared out, of so many pixels from a first one on."""
    columns = first[:, None] + np.arange(width, dtype=np.int32)
    weights = 1 - np.abs(columns - place[:, None]) / reach
    kept = weights >= _LEAST
    ends = np.concatenate([[0], np.cumsum(kept.sum(1))]).astype(np.int32)
    return csr_array((weights[kept], columns[kept], ends), shape=(len(place), source))


def row_sums(matrix: csr_array) -> NDArray[Any]:
    """Sum of each row, added in the order of a full matrix, so that it is the same to the bit.

    NumPy halves a long row again and again and adds up the sums of its pieces, and zeros change no sum: only the pieces
    of a row that hold something are looked at.
    """
    rows, columns = matrix.shape
    if rows * columns <= _ENTRIES:
        return np.asarray(matrix.toarray().sum(1))
    matrix.sort_indices()
    # One number for each entry, in order.
    places = np.repeat(np.arange(rows, dtype=np.int64) * columns, np.diff(matrix.indptr)) + matrix.indices

    def sums_of(some: NDArray[np.int64], low: int, high: int) -> NDArray[Any]:
        """Of these rows, from one column on to before another."""
        starts, ends = (np.searchsorted(places, some * columns + column) for column in (low, high))
        sums, here = np.zeros(len(some), matrix.dtype), np.flatnonzero(starts < ends)
        if high - low > _PIECE:
            middle = low + (high - low) // 2 // 8 * 8
            if len(here):
                sums[here] = sums_of(some[here], low, middle) + sums_of(some[here], middle, high)
            return sums
        together = _ENTRIES // (high - low)
        for few in (here[start : start + together] for start in range(0, len(here), together)):
            counts = ends[few] - starts[few]
            entries = np.repeat(starts[few] - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
            full = np.zeros((len(few), high - low), matrix.dtype)
            full[np.repeat(np.arange(len(few)), counts), matrix.indices[entries] - low] = matrix.data[entries]
            sums[few] = full.sum(1)
        return sums

    return sums_of(np.arange(rows), 0, columns)


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
