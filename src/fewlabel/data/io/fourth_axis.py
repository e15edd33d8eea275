"""What the fourth axis of an image is: the time of a cine, or channels."""

from __future__ import annotations

from pathlib import Path

import SimpleITK as sitk  # noqa: N813  # the name its own manual uses

from fewlabel.core.errors import Fault
from fewlabel.data.io.catalog_paths import is_file_path, shown

_NIFTI = (".nii", ".nii.gz", ".hdr")
#: Units of the fourth axis in NIfTI headers (xyzt_units, bits 3 to 5) that are none of time.
_NOT_TIME = {32: "hertz", 40: "ppm", 48: "radians per second"}


def why_no_cine(path: Path, channels: int) -> Fault | None:
    """What keeps an image of several channels from being a cine of one channel; None if nothing does.

    A cine is a 4D NIfTI file with one value a voxel whose fourth axis is time, or does not say what it is.

    Args:
        path: As a catalog has it; the file can be read.
        channels: Its channels, for the message.
    """
    where = shown(path)
    if not is_file_path(path) or not path.name.lower().endswith(_NIFTI):
        problem = f"has {channels} channels, where one is expected, and only a 4D NIfTI can be a cine"
        return Fault(problem, where, "Give a file of one channel, or store a cine as NIfTI")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    if reader.GetNumberOfComponents() > 1:
        problem = f"has {reader.GetNumberOfComponents()} values a voxel, such as colours, where one channel is expected"
        return Fault(problem, where, "Give a file of one channel, or a model of as many channels")
    unit = _NOT_TIME.get(_unit_of_fourth_axis(path))
    if unit is not None:
        problem = f"has {channels} channels, where one is expected, and is no cine: its fourth axis is in {unit}"
        return Fault(problem, where, "Give a file of one channel, or correct xyzt_units in the header")
    return None


def _unit_of_fourth_axis(path: Path) -> int:
    import nibabel

    image = nibabel.load(path)
    return int(image.header["xyzt_units"]) & 0b111000 if "xyzt_units" in image.header else 0
