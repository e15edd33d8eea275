"""Volumes on disk, written anew: voxels and their place, and no other fact of the file that they came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.unfinished_files import written_beside
from fewlabel.data.io.file_names import check_name
from fewlabel.data.io.geometry import Geometry


def write_volume(path: Path, array: NDArray[Any], geometry: Geometry) -> None:
    """Write a volume of one channel.

    Args:
        path: Where to; the suffix chooses the format.
        array: (z, y, x), on the upright grid of :func:`fewlabel.data.io.volume_reading.read_volume`.
        geometry: Of the scan.
    """
    check_name(path)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing([float(step) for step in geometry.spacing[::-1]])
    image.SetOrigin([float(place) for place in geometry.origin])
    image.SetDirection([float(part) for part in geometry.direction])
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as partial:
        sitk.WriteImage(image, str(partial), useCompression=True)
