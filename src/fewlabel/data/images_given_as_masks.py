"""Masks that are images by their content: whole numbers, but other ones from voxel to voxel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewlabel.core.errors import Fault

#: With fewer values nobody can tell.
_FEWEST = 24
#: Neighbours in a row that differ, of those that are not both background. The outlines of a hundred organs are below a
#: fifth, noise is near 1, and a photograph above a half.
_UNLIKE = 0.4


def image_given_as_mask(mask: NDArray[np.integer[Any]], counts: Mapping[int, int], where: str) -> Fault | None:
    """The fault of a mask that holds an image; None for one whose values make up areas.

    What is commonest counts as background: an image may have its own, such as -1024 for air.

    Args:
        mask: Whole numbers (z, y, x).
        counts: Voxels of each of them.
        where: The file, for the message.

    Example:
        >>> import numpy as np
        >>> str(image_given_as_mask(np.arange(60).reshape(1, 6, 10), dict.fromkeys(range(60), 1), "a.png"))
        'a.png: holds 60 different values, which change from voxel to voxel: it seems to be an image. Give its mask'
    """
    if len(counts) < _FEWEST or mask.shape[-1] < 2:
        return None
    background = max(counts, key=lambda value: counts[value])
    before, after = mask[..., :-1], mask[..., 1:]
    inside = (before != background) | (after != background)
    if (before != after).sum() <= _UNLIKE * inside.sum():
        return None
    problem = f"holds {len(counts)} different values, which change from voxel to voxel: it seems to be an image"
    return Fault(problem, where, "Give its mask")
