"""What cannot be the size of a voxel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

#: Voxel sizes that occur, in mm: from below the wavelength of light to beyond a body.
SMALLEST, LARGEST = 1e-6, 1e4


def size_problem(sizes: Sequence[float]) -> str:
    """What is wrong with voxel sizes in mm, or an empty text.

    Args:
        sizes: Along each axis.
    """
    values = np.asarray(sizes, dtype=np.float64)
    shown = "(" + ", ".join(f"{value:.4g}" for value in sizes) + ") mm"
    if not np.isfinite(values).all():
        return f"voxel sizes must be numbers, not {shown}"
    if (values == 0).any():
        return f"has a voxel size of 0: {shown}"
    if (values < 0).any():
        return f"voxel sizes must be positive, not {shown}"
    if (values < SMALLEST).any() or (values > LARGEST).any():
        return f"voxel sizes of {shown} cannot be true"
    return ""
