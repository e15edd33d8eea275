"""The types that whole numbers are kept in: a mask in eight bytes a voxel is twice its float32 scan."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_TYPES: tuple[type[np.integer[Any]], ...] = (np.uint8, np.int16, np.int32)


def integer_type(values: Iterable[int]) -> type[np.integer[Any]]:
    """The first of uint8, int16, int32 and int64 that holds all of these: what viewers read.

    Example:
        >>> integer_type([0, 255]).__name__, integer_type([-1, 3]).__name__
        ('uint8', 'int16')
    """
    every = [0, *values]
    low, high = min(every), max(every)
    fitting = (kind for kind in _TYPES if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
    return next(fitting, np.int64)


def in_smallest_type(values: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    """The same values in the smallest type that :func:`integer_type` has for them."""
    return values.astype(integer_type([int(values.min(initial=0)), int(values.max(initial=0))]))


def integers(array: NDArray[Any]) -> NDArray[np.integer[Any]]:
    """A copy as whole numbers of this machine, in the type of the file; in int64 where that is for none.

    Args:
        array: Of any type whose values are whole numbers.
    """
    if array.dtype.kind not in "iu" or array.dtype == np.uint64:
        return array.astype(np.uint8 if array.dtype.kind == "b" else np.int64)
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
