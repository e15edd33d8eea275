"""What classes touch within slices: by this a piece of a prediction can look like the labelled structure, or not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def contact_shares(mask: NDArray[np.integer], count: int, slice_axis: int = 0) -> NDArray[np.float64]:
    """Of each class's boundary within slices, the share along which it touches each class.

    The boundary is the pairs of neighbouring pixels of one slice whose classes differ; a share hardly depends on the
    size of pixels. Beyond the edge of a slice is background. Across slices nothing is counted: how much of a boundary
    lies there depends on their thickness.

    Args:
        mask: (Z, Y, X) class indices below ``count``, 0 for background.
        count: Number of classes, background counted.
        slice_axis: The axis across slices.

    Returns:
        (count, count). Each row sums to one, or to zero where the class has no boundary. The row of the background
        says what the foreground shows to it.

    Example:
        >>> ring = np.zeros((1, 5, 5), np.uint8)
        >>> ring[0, 1:4, 1:4] = 2
        >>> ring[0, 2, 2] = 1
        >>> contact_shares(ring, 3)[1:].tolist()
        [[0.0, 0.0, 1.0], [0.75, 0.25, 0.0]]
    """
    pairs = np.zeros(count * count, np.int64)
    for axis in {0, 1, 2} - {slice_axis}:
        along = np.pad(np.moveaxis(mask, axis, 0), ((1, 1), (0, 0), (0, 0)))
        first, second = along[1:], along[:-1]
        other = first != second
        pairs += np.bincount(first[other].astype(np.intp) * count + second[other], minlength=count * count)
    touched = pairs.reshape(count, count)
    touched = touched + touched.T
    return np.asarray(touched / np.maximum(touched.sum(axis=1, keepdims=True), 1))


def unlikeness(shares: NDArray[np.float64], reference: NDArray[np.float64], classes: Sequence[int]) -> float:
    """Sum of absolute differences between shares of contact, over the rows of these classes; 0 to twice their number.

    Args:
        shares: (count, count), as :func:`contact_shares` gives them.
        reference: The same shape.
        classes: Rows that count.
    """
    rows = list(classes)
    return float(np.abs(shares[rows] - reference[rows]).sum())
