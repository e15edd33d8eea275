"""Connected components of a mask."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fewlabel.data.voxel_counts import counts_of


@dataclass(frozen=True)
class Pieces:
    """Connected components of a mask.

    Attributes:
        box: The smallest box that holds them.
        numbers: In this box, the number of each voxel's component, from 1; 0 outside.
        sizes: (components,) voxels of each.
    """

    box: tuple[slice, ...]
    numbers: NDArray[np.signedinteger]
    sizes: NDArray[np.int64]


def pieces_of(mask: NDArray[np.bool_]) -> Pieces:
    """Components of a boolean mask whose voxels touch by a face, an edge or a corner; it may hold nothing."""
    box = box_of(mask)
    if box is None:
        return Pieces((slice(0, 0),) * mask.ndim, np.zeros((0,) * mask.ndim, np.int32), np.zeros(0, np.int64))
    numbers, count = ndimage.label(mask[box], structure=np.ones((3,) * mask.ndim))
    return Pieces(box, numbers, counts_of(numbers, count + 1)[1:])


def box_of(mask: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The smallest box that holds a boolean mask; None where it holds nothing."""
    boxes = ndimage.find_objects(mask.view(np.uint8))
    return boxes[0] if boxes else None
