"""One mask file, read as whole numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io.itk_image import read_image, restored


def read_mask_file(path: Path) -> NDArray[np.int64]:
    """A mask (z, y, x) in a file of its own.

    Raises:
        DataError: If it cannot be read, has several channels, or holds values that are not whole numbers.
    """
    image = read_image(path)
    array = np.asarray(sitk.GetArrayViewFromImage(image))
    if image.GetNumberOfComponentsPerPixel() > 1 or array.ndim == 4:
        raise DataError("A mask cannot be used:", [several_channels(path, array.shape)])
    return whole_numbers(path, restored(path, array) if array.dtype.kind == "f" else array)


def whole_numbers(path: Path, array: NDArray[Any]) -> NDArray[np.int64]:
    """The values of a mask, 2D or 3D, as (z, y, x) whole numbers.

    Raises:
        DataError: If it has more axes, or some values are not whole numbers.
    """
    if array.ndim > 3:
        raise DataError("A mask cannot be used:", [several_channels(path, array.shape)])
    if array.dtype.kind == "f":
        wrong = ~np.isfinite(array) | (array != np.rint(array))
        if wrong.any():
            example = f"{array[wrong].flat[0]:.4g}"
            problem = f"{int(wrong.sum())} voxels are not whole numbers, such as {example}"
            fault = Fault(problem, str(path), "Resample masks with nearest neighbour")
            raise DataError("A mask cannot be used:", [fault])
    whole = array.astype(np.int64)
    return whole[None] if whole.ndim == 2 else whole


def several_channels(path: Path, shape: tuple[int, ...]) -> Fault:
    """What is wrong with a mask of several channels."""
    return Fault(f"must have one channel, but has shape {shape}", str(path), "Store one class index per voxel")
