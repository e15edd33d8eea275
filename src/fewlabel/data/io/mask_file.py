"""One mask file, read as whole numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.data.io import file_type_detection
from fewlabel.data.io.integer_types import integer_type, integers
from fewlabel.data.io.itk_image import checked, geometry_in, read_image, restored
from fewlabel.data.io.mask_colours import black_and_white, colour_fault, lossy_fault
from fewlabel.data.io.nifti_bytes import header_file, read_scale
from fewlabel.data.io.shear import straighten

#: How far from a whole number a value of a mask may lie to be read as it.
ROUNDING = 1e-3
#: Interpolation leaves fractions at outlines alone: with a greater share of them, a file holds no mask.
_CONTINUOUS = 0.5


def read_mask_file(path: Path, notes: list[str] | None = None) -> NDArray[np.integer[Any]]:
    """A mask (z, y, x) in a file of its own.

    Of an indexed picture the places in its table of colours count, of other pictures the grey value, and of a JPEG in
    black and white, which blurs their border, the nearer of the two. Of a file with
    sheared axes, the voxels are those of the nearest grid at right angles.

    Args:
        path: The file.
        notes: Takes what is unusual about it and does no harm.

    Raises:
        DataError: If it cannot be read, has several channels or colours, or holds values that are not whole numbers.
    """
    facts = checked(path)
    image = read_image(path, indices=True)
    array = np.asarray(sitk.GetArrayViewFromImage(image))
    if facts.picture is not None:
        two = black_and_white(array) if facts.picture.lossy else None
        if two is None:
            array = _grey(path, array, image.GetNumberOfComponentsPerPixel(), alpha=facts.picture.alpha)
            if facts.picture.lossy and (fault := lossy_fault(path, array)) is not None:
                raise DataError("A mask cannot be used:", [fault])
        else:
            array = two
    elif image.GetNumberOfComponentsPerPixel() > 1 or array.ndim == 4:
        raise DataError("A mask cannot be used:", [several_channels(path, array.shape)])
    whole = whole_numbers(path, restored(path, array) if array.dtype.kind == "f" else array, notes)
    if facts.kind in file_type_detection.PICTURES:
        return whole
    return straighten(whole, geometry_in(path, image), mask=True)


def whole_numbers(
    path: Path,
    array: NDArray[Any],
    notes: list[str] | None = None,
) -> NDArray[np.integer[Any]]:
    """The values of a mask, 2D or 3D, as (z, y, x) whole numbers.

    Args:
        path: Of the mask, for messages.
        array: Its values.
        notes: Takes that values were rounded.

    Raises:
        DataError: If it has more axes, or some values are further than :data:`ROUNDING` from a whole number.
    """
    if array.ndim > 3:
        raise DataError("A mask cannot be used:", [several_channels(path, array.shape)])
    if array.dtype.kind == "c":
        raise DataError("A mask cannot be used:", [Fault("holds complex numbers", str(path), "Store class indices")])
    whole = _rounded(path, array, notes) if array.dtype.kind == "f" else integers(array)
    return whole[None] if whole.ndim == 2 else whole


def _rounded(path: Path, array: NDArray[np.floating[Any]], notes: list[str] | None) -> NDArray[np.integer[Any]]:
    """The whole numbers that floating-point ones stand for, plane by plane, in a small type.

    Raises:
        DataError: If some values are further than :data:`ROUNDING` from a whole number.
    """
    planes = array if array.ndim == 3 else array[None]
    rounded, low, high = 0, 0, 0
    wrong = _Wrong()
    for plane in planes:
        with np.errstate(invalid="ignore", over="ignore"):
            nearest = np.rint(plane)
            off = np.abs(plane - nearest)
        off[~np.isfinite(plane)] = np.inf
        rounded += int((off > 0).sum())
        if (far := off > ROUNDING).any():
            wrong.add(plane[far], off[far])
        elif plane.size:
            low, high = min(low, int(nearest.min())), max(high, int(nearest.max()))
    if wrong.count:
        raise DataError("A mask cannot be used:", [_fractions(path, wrong, array.size)])
    if notes is not None and rounded:
        notes.append(f"{rounded} voxels of {path.name} were rounded: they lie within {ROUNDING:g} of whole numbers")
    # What no int64 holds is cut as NumPy cuts it.
    whole = np.empty(array.shape, dtype=integer_type([low, high]))
    for made, plane in zip(whole if array.ndim == 3 else whole[None], planes, strict=True):
        with np.errstate(invalid="ignore"):
            made[...] = np.rint(plane).astype(np.int64)
    return whole


@dataclass
class _Wrong:
    """Values that are no whole numbers: how many, the first, and how far off they are at most."""

    count: int = 0
    first: float = 0.0
    furthest: float = 0.0

    def add(self, values: NDArray[np.floating[Any]], off: NDArray[np.floating[Any]]) -> None:
        """Count some more."""
        if not self.count:
            self.first = float(values[0])
        self.count += values.size
        self.furthest = max(self.furthest, float(off.max()))


def several_channels(path: Path, shape: tuple[int, ...]) -> Fault:
    """What is wrong with a mask of several channels."""
    return Fault(f"must have one channel, but has shape {shape}", str(path), "Store one class index per voxel")


def _fractions(path: Path, wrong: _Wrong, size: int) -> Fault:
    problem = f"{wrong.count} voxels are not whole numbers, such as {wrong.first:.4g}"
    scale = _scale(path)
    if scale != 1.0 and np.isfinite(wrong.furthest) and wrong.furthest <= abs(scale) / 2 * 1.01:
        problem += f": its header scales the stored numbers by {scale:.6g}, which rounds the classes"
        return Fault(problem, str(path), "Store the classes as whole numbers with a scale (scl_slope) of 1")
    if wrong.count > _CONTINUOUS * size and np.isfinite(wrong.furthest):
        remedy = "Give the mask: this seems to be an image, or a map of probabilities"
        return Fault(problem, str(path), remedy)
    return Fault(problem, str(path), "Resample masks with nearest neighbour")


def _scale(path: Path) -> float:
    if not path.name.lower().endswith((".nii", ".nii.gz", ".hdr", ".img", ".img.gz")):
        return 1.0
    return read_scale(header_file(path) or path)


def _grey(path: Path, array: NDArray[Any], components: int, *, alpha: bool) -> NDArray[Any]:
    """The one channel of a mask picture."""
    if components == 2 and alpha:
        return array[..., 0]
    if components > 1:
        raise DataError("A mask cannot be used:", [colour_fault(path, array, alpha=alpha)])
    return array
