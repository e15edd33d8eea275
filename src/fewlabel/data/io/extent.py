"""What an image file holds, from its beginning alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk  # noqa: N813  # the name its own manual uses

from fewlabel.data.io.itk_log import reading

_NIFTI = (".nii", ".nii.gz", ".hdr", ".img")


@dataclass(frozen=True)
class Extent:
    """What an image file holds.

    Attributes:
        frames: Length of its fourth axis; 1 without one.
        components: Values of a voxel that are stored together, such as the three colours of a picture.
        slices: Length of its third axis; 1 without one.
    """

    frames: int = 1
    components: int = 1
    slices: int = 1


def extent_of(path: Path) -> Extent:
    """The extent of a file; a single value where its beginning cannot be read, which is for others to name."""
    try:
        return _nifti(path) if path.name.lower().endswith(_NIFTI) else _itk(path)
    except (OSError, RuntimeError, ValueError, EOFError):
        return Extent()


def _itk(path: Path) -> Extent:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with reading(path):
        reader.ReadImageInformation()
    size = reader.GetSize()
    _, _, slices, frames = (*size, 1, 1)[:4]
    return Extent(int(frames), int(reader.GetNumberOfComponents()), int(slices))


def _nifti(path: Path) -> Extent:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nibabel.load(path)
    except ImageFileError:
        return Extent()
    shape = (*image.shape, 1, 1, 1, 1, 1)
    return Extent(int(shape[3]), int(shape[4]) * max(1, len(image.get_data_dtype().names or ())), int(shape[2]))
