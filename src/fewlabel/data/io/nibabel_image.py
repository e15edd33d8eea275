"""NIfTI files that ITK does not read, as nibabel reads them: of the second version, and with sheared axes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.io.nifti_bytes import header_file, read_header
from fewlabel.data.io.nifti_grid import file_steps


@dataclass(frozen=True)
class Grid:
    """What SimpleITK is asked of an image, with its names.

    Attributes:
        sides: Voxels along the file axes.
        steps: (3, 3); column j is the step along file axis j in mm, patient axes (left, posterior, superior).
        origin: Place of the first voxel in mm.
        components: Values per voxel.
    """

    sides: tuple[int, ...]
    steps: NDArray[np.float64]
    origin: NDArray[np.float64]
    components: int = 1

    def GetSize(self) -> tuple[int, ...]:  # noqa: N802
        """Voxels along the file axes."""
        return self.sides

    def GetSpacing(self) -> list[float]:  # noqa: N802
        """Voxel size in mm along the file axes; 1 along that of time."""
        sizes = np.linalg.norm(self.steps, axis=0).tolist()
        return [float(size) for size in (*sizes, 1.0)[: len(self.sides)]]

    def GetOrigin(self) -> list[float]:  # noqa: N802
        """Place of the first voxel; 0 in time."""
        return [float(value) for value in (*self.origin.tolist(), 0.0)[: len(self.sides)]]

    def GetDirection(self) -> list[float]:  # noqa: N802
        """Row-major matrix; column j is the unit vector of file axis j."""
        inner = min(3, len(self.sides))
        matrix = np.eye(len(self.sides))
        matrix[:inner, :inner] = (self.steps / np.linalg.norm(self.steps, axis=0))[:inner, :inner]
        return [float(value) for value in matrix.ravel()]

    def GetNumberOfComponentsPerPixel(self) -> int:  # noqa: N802
        """Values per voxel."""
        return self.components


def nibabel_grid(path: Path) -> Grid:
    """Where the voxels of a NIfTI file lie, without reading them.

    Raises:
        DataError: If nibabel does not read it.
    """
    scan = _opened(path)
    header = read_header(header_file(path) or path)
    if header is None:
        raise ValueError(f"{path} is no NIfTI file")
    steps, origin = file_steps(header.content)
    sides = [int(side) for side in scan.shape]
    while len(sides) > 3 and sides[-1] == 1:
        sides.pop()
    if len(sides) > 4:
        sides = [*sides[:3], int(np.prod(sides[3:]))]
    names = scan.get_data_dtype().names
    return Grid(tuple(sides), steps, origin, len(names) if names else 1)


def nibabel_image(path: Path) -> Any:
    """A NIfTI file as a SimpleITK image; time points and channels one after the other along its fourth axis.

    Raises:
        DataError: If nibabel does not read it, or it holds complex numbers.
    """
    grid = nibabel_grid(path)
    try:
        with np.errstate(invalid="ignore", over="ignore"):
            array = np.asanyarray(_opened(path).dataobj)
    except (OSError, ValueError, EOFError, OverflowError) as error:
        raise _unread(path, error) from error
    if array.dtype.kind == "c":
        fault = Fault("holds complex numbers", str(path), "Store their magnitude")
        raise DataError("A file cannot be read:", [fault])
    array = array.reshape(grid.sides, order="F")
    if array.dtype.names:
        array = np.stack([array[name] for name in array.dtype.names]).transpose(*range(len(grid.sides), 0, -1), 0)
    else:
        array = array.T
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")), isVector=grid.components > 1
    )
    image.SetSpacing(grid.GetSpacing())
    image.SetOrigin(grid.GetOrigin())
    image.SetDirection(grid.GetDirection())
    return image


def _opened(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    try:
        return nibabel.load(path)
    except (ImageFileError, HeaderDataError, OSError, ValueError, EOFError) as error:
        raise _unread(path, error) from error


def _unread(path: Path, error: Exception) -> DataError:
    return DataError("A file cannot be read:", [Fault(f"cannot be read by nibabel ({reason(error)})", str(path))])
