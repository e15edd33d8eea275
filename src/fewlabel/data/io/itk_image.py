"""One image file as SimpleITK reads it: SimpleITK decides the geometry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.io.completeness import all_finite, restore_not_finite, what_is_missing
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.io.itk_log import reading

SCAN_SUFFIXES = (
    ".nii.gz",
    ".nii",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
    ".gipl",
    ".gipl.gz",
    ".hdr",
    ".tif",
    ".tiff",
    ".png",
    ".bmp",
    ".jpg",
    ".jpeg",
)


def is_scan(path: Path) -> bool:
    """Whether a name looks like an image file; hidden files and macOS litter (``._*``) do not."""
    return not path.name.startswith(".") and path.name.lower().endswith(SCAN_SUFFIXES)


def file_stem(path: Path) -> str:
    """Name of a file without its image suffix: ``a.b.nii.gz`` → ``a.b``."""
    for suffix in SCAN_SUFFIXES:
        if path.name.lower().endswith(suffix):
            return path.name[: -len(suffix)]
    return path.stem


def read_header(path: Path) -> Geometry:
    """Geometry from the header; a gzip file is read through once to see whether it is undamaged.

    Raises:
        DataError: If the file is missing, incomplete, damaged, unreadable or not a 2D to 4D image.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _reading_faults(path):
        reader.ReadImageInformation()
    return _geometry(path, reader.GetSize(), reader, reader.GetNumberOfComponents())


def read_channels(path: Path, frame: int | None = None) -> tuple[NDArray[np.float32], Geometry]:
    """Intensities (channels, z, y, x) of a file and where they lie; the 4th axis of a file becomes channels.

    Voxels of NIfTI files that are not finite are NaN.

    Args:
        path: The file.
        frame: Channel to read of a 4D image, from 0; None for all.

    Raises:
        DataError: As :func:`read_header`.
    """
    image = read_image(path) if frame is None or not all_finite(path) else _read_frame(path, frame)
    array = restored(path, _channels(image))
    geometry = _geometry(path, image.GetSize(), image, image.GetNumberOfComponentsPerPixel())
    return (array if frame is None or len(array) == 1 else array[frame : frame + 1].copy()), geometry


def read_image(path: Path) -> Any:
    """The SimpleITK image in a file.

    Raises:
        DataError: If it is missing or unreadable.
    """
    with _reading_faults(path):
        return sitk.ReadImage(str(path))


def _read_frame(path: Path, frame: int) -> Any:
    """One time point of a 4D image, without the others in memory; anything else whole."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _reading_faults(path):
        reader.ReadImageInformation()
        size = reader.GetSize()
        if len(size) == 4:
            reader.SetExtractSize([*size[:3], 0])
            reader.SetExtractIndex([0, 0, 0, frame])
        return reader.Execute()


class _reading_faults:  # noqa: N801  # used as a statement: with _reading_faults(path)
    """Turns what ITK raises on a bad file into a DataError that names it."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.inner = reading(self.path)

    def __enter__(self) -> None:
        if not self.path.is_file():
            raise DataError("A file cannot be read:", [Fault("no such file", str(self.path))])
        try:
            missing = what_is_missing(self.path)
        except OSError as error:
            fault = Fault(f"cannot be read ({reason(error)})", str(self.path), "Check its permissions and its disk")
            raise DataError("A file cannot be read:", [fault]) from error
        if missing:
            fault = Fault(f"is incomplete or damaged: {missing}", str(self.path), "Copy or download it again")
            raise DataError("A file cannot be read:", [fault])
        self.inner.__enter__()

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.inner.__exit__(None, None, None)
        if isinstance(error, RuntimeError):
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            # ITK closes with the operating system's last error, which is often about something else.
            lines = [line for line in lines if not line.startswith("Reason:")] or lines
            remedy = "Check that the file is complete and in the format of its suffix"
            if "orthonormal" in str(error):
                remedy = "Its axes are not at right angles: resample it or correct its header"
            fault = Fault(f"cannot be read by ITK ({lines[-1].rstrip('.')})", str(self.path), remedy)
            raise DataError("A file cannot be read:", [fault]) from error


def _geometry(path: Path, size: Sequence[int], source: Any, components: int) -> Geometry:
    spacing, origin, flat = source.GetSpacing(), source.GetOrigin(), source.GetDirection()
    n = len(size)
    if n not in {2, 3, 4}:
        fault = Fault(f"must be a 2D, 3D or 4D image, but has {n} axes", str(path))
        raise DataError("A scan cannot be used:", [fault])
    matrix = np.eye(3)
    inner = min(n, 3)
    matrix[:inner, :inner] = np.asarray(flat).reshape(n, n)[:inner, :inner]
    whole = (*size, 1)[:3]
    steps = (*spacing, 1.0)[:3]
    start = (*origin, 0.0)[:3]
    return Geometry(
        shape=(int(whole[2]), int(whole[1]), int(whole[0])),
        spacing=(float(steps[2]), float(steps[1]), float(steps[0])),
        origin=(float(start[0]), float(start[1]), float(start[2])),
        direction=tuple(float(value) for value in matrix.ravel()),
        components=int(components) * (int(size[3]) if n == 4 else 1),
    )


def _channels(image: Any) -> NDArray[np.float32]:
    array = np.asarray(sitk.GetArrayViewFromImage(image))
    if image.GetNumberOfComponentsPerPixel() > 1:
        array = np.moveaxis(array, -1, 0)
    elif image.GetDimension() < 4:
        array = array[None]
    if image.GetDimension() == 2:
        array = array[:, None]
    return np.array(array, dtype=np.float32, order="C")


def restored(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """Values of a file with NaN where the file holds no finite number and ITK says 0."""
    try:
        return restore_not_finite(path, array)
    except (OSError, ValueError) as error:
        problem = f"has voxels that are not finite, and they cannot be located ({reason(error)})"
        fault = Fault(problem, str(path), "Store finite numbers")
        raise DataError("A file cannot be read:", [fault]) from error
