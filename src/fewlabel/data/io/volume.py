"""Scans and masks on disk, read: SimpleITK decides the geometry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault, reason
from fewlabel.data.io.completeness import restore_not_finite, what_is_missing
from fewlabel.data.io.hdf5 import Address
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


@dataclass(frozen=True)
class Geometry:
    """Where the voxels of a scan lie in the patient.

    Attributes:
        shape: Voxels along (z, y, x), the order of the array.
        spacing: Voxel size in mm along (z, y, x).
        origin: Centre of the first voxel in mm, patient axes (left, posterior, superior).
        direction: Row-major 3x3 matrix; column j is the unit vector of file axis j (x, y, z) in patient axes.
        components: Channels stored in the file.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    components: int = 1

    def axes(self) -> NDArray[np.float64]:
        """Unit vectors (3, 3) of the array axes z, y, x, one per row, in patient axes."""
        return np.asarray(self.direction, dtype=np.float64).reshape(3, 3).T[::-1].copy()

    def corners(self) -> NDArray[np.float64]:
        """The eight corner voxels (8, 3) in mm, patient axes."""
        steps = self.axes() * np.asarray(self.spacing)[:, None]
        index = np.stack(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij"), -1).reshape(8, 3)
        corners: NDArray[np.float64] = np.asarray(self.origin) + index @ steps
        return corners


@dataclass(frozen=True)
class Volume:
    """A scan in memory: ``array`` is (channels, z, y, x) float32 in raw intensities."""

    array: NDArray[np.float32]
    geometry: Geometry
    paths: tuple[Path, ...]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (z, y, x)."""
        return self.geometry.spacing


def is_scan(path: Path) -> bool:
    """Whether a name looks like an image file; hidden files and macOS litter (``._*``) do not."""
    return not path.name.startswith(".") and path.name.lower().endswith(SCAN_SUFFIXES)


def scan_stem(path: Path) -> str:
    """File name without its image suffix: ``a.b.nii.gz`` → ``a.b``."""
    address = Address.parse(path)
    if address is not None:
        return address.stem
    name = path.name
    for suffix in SCAN_SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return path.stem


def read_geometry(path: Path) -> Geometry:
    """Geometry from the header; a gzip file is read through once to see whether it is undamaged.

    Raises:
        DataError: If the file is missing, incomplete, damaged, unreadable or not a 2D to 4D image.
    """
    address = Address.parse(path)
    if address is not None:
        return _unplaced(address)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with _reading_faults(path):
        reader.ReadImageInformation()
    components = reader.GetNumberOfComponents()
    return _geometry(path, reader.GetSize(), reader, components)


def read_volume(paths: Path | Sequence[Path]) -> Volume:
    """Read a scan, one file per channel; a 2D image becomes one slice, the 4th axis of a file becomes channels.

    Voxels of NIfTI files that are not finite are NaN.

    Args:
        paths: One file, or one per channel, all on one grid.

    Raises:
        DataError: If a file cannot be read or its grid differs from the first channel's.
    """
    files = (paths,) if isinstance(paths, Path) else tuple(paths)
    arrays = []
    geometries = []
    for path in files:
        address = Address.parse(path)
        if address is not None:
            arrays.append(np.array(address.read()[None], dtype=np.float32, order="C"))
            geometries.append(_unplaced(address))
            continue
        image = read_image(path)
        geometries.append(_geometry(path, image.GetSize(), image, image.GetNumberOfComponentsPerPixel()))
        arrays.append(_restored(path, _channels(image)))
    faults = [
        fault
        for path, geometry in zip(files[1:], geometries[1:], strict=True)
        for fault in grid_faults(files[0], geometries[0], path, geometry)
    ]
    if faults:
        raise DataError("The channels of a scan must share one grid:", faults)
    return Volume(np.concatenate(arrays) if len(arrays) > 1 else arrays[0], geometries[0], files)


def read_mask(path: Path) -> NDArray[np.int64]:
    """Read a mask as whole numbers (z, y, x).

    Raises:
        DataError: If it cannot be read, has several channels, or holds values that are not whole numbers.
    """
    address = Address.parse(path)
    image = read_image(path) if address is None else None
    array = np.asarray(sitk.GetArrayViewFromImage(image)) if address is None else address.read()
    if (image is not None and image.GetNumberOfComponentsPerPixel() > 1) or array.ndim == 4:
        problem = f"must have one channel, but has shape {array.shape}"
        raise DataError("A mask cannot be used:", [Fault(problem, str(path), "Store one class index per voxel")])
    if array.dtype.kind == "f":
        array = array if image is None else _restored(path, array)
        wrong = ~np.isfinite(array) | (array != np.rint(array))
        if wrong.any():
            example = f"{array[wrong].flat[0]:.4g}"
            problem = f"{int(wrong.sum())} voxels are not whole numbers, such as {example}"
            fault = Fault(problem, str(path), "Resample masks with nearest neighbour")
            raise DataError("A mask cannot be used:", [fault])
    whole = array.astype(np.int64)
    return whole[None] if whole.ndim == 2 else whole


def value_counts(mask: NDArray[np.integer[Any]]) -> dict[int, int]:
    """Voxels of each value that occurs in a mask."""
    low, high = int(mask.min(initial=0)), int(mask.max(initial=0))
    if high - low < 1 << 16:
        counts = np.bincount((mask - low).ravel())
        return {int(index) + low: int(counts[index]) for index in np.flatnonzero(counts)}
    values, many = np.unique(mask, return_counts=True)
    return {int(value): int(count) for value, count in zip(values, many, strict=True)}


def grid_faults(image: Path, wanted: Geometry, other: Path, geometry: Geometry) -> list[Fault]:
    """What sets the grid of ``other`` apart from that of ``image``: shape, spacing, or place in the patient."""
    where = str(other)
    if geometry.shape != wanted.shape:
        problem = f"has shape {geometry.shape}, but {image} has {wanted.shape} (z, y, x)"
        return [Fault(problem, where, "Export both from the same series")]
    if not np.allclose(geometry.spacing, wanted.spacing, rtol=1e-3, atol=1e-4):
        problem = f"has spacing {_mm(geometry.spacing)} mm, but {image} has {_mm(wanted.spacing)} mm (z, y, x)"
        return [Fault(problem, where, "Correct the header that is wrong")]
    apart = float(np.linalg.norm(geometry.corners() - wanted.corners(), axis=1).max())
    if apart > 0.5 * min(wanted.spacing):
        problem = f"does not lie where {image} lies: their corners are up to {apart:.3g} mm apart"
        return [Fault(problem, where, "Correct origin and direction in the header")]
    return []


def read_image(path: Path) -> Any:
    """The SimpleITK image in a file.

    Raises:
        DataError: If it is missing or unreadable.
    """
    with _reading_faults(path):
        return sitk.ReadImage(str(path))


@contextmanager
def _reading_faults(path: Path) -> Iterator[None]:
    """Turns what ITK raises on a bad file into a DataError that names it."""
    if not path.is_file():
        raise DataError("A file cannot be read:", [Fault("no such file", str(path))])
    try:
        missing = what_is_missing(path)
    except OSError as error:
        fault = Fault(f"cannot be read ({reason(error)})", str(path), "Check its permissions and its disk")
        raise DataError("A file cannot be read:", [fault]) from error
    if missing:
        fault = Fault(f"is incomplete or damaged: {missing}", str(path), "Copy or download it again")
        raise DataError("A file cannot be read:", [fault])
    try:
        with reading(path):
            yield
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # ITK closes with the operating system's last error, which is often about something else.
        lines = [line for line in lines if not line.startswith("Reason:")] or lines
        remedy = "Check that the file is complete and in the format of its suffix"
        if "orthonormal" in str(error):
            remedy = "Its axes are not at right angles: resample it or correct its header"
        fault = Fault(f"cannot be read by ITK ({lines[-1].rstrip('.')})", str(path), remedy)
        raise DataError("A file cannot be read:", [fault]) from error


def _unplaced(address: Address) -> Geometry:
    """Geometry of an array that does not know where it lies: axes along the patient's, origin 0."""
    return Geometry(address.shape(), address.spacing, (0.0, 0.0, 0.0), tuple(np.eye(3).ravel().tolist()))


def _geometry(path: Path, size: Sequence[int], source: Any, components: int) -> Geometry:
    spacing, origin, flat = source.GetSpacing(), source.GetOrigin(), source.GetDirection()
    n = len(size)
    if n not in {2, 3, 4}:
        raise DataError("A scan cannot be used:", [Fault(f"must be a 2D, 3D or 4D image, but has {n} axes", str(path))])
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


def _restored(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """With NaN where the file holds no finite number and ITK says 0."""
    try:
        return restore_not_finite(path, array)
    except (OSError, ValueError) as error:
        problem = f"has voxels that are not finite, and they cannot be located ({reason(error)})"
        raise DataError("A file cannot be read:", [Fault(problem, str(path), "Store finite numbers")]) from error


def _mm(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:.4g}" for value in values) + ")"
