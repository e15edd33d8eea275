"""Masks, probabilities and maps on disk, written: with every fact of the scan they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the name its own manual uses
from numpy.typing import NDArray

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.unfinished_files import written_beside
from fewlabel.data.io.catalog_paths import is_file_path
from fewlabel.data.io.composite_paths import Frame, parse_composite
from fewlabel.data.io.file_names import check_name, is_picture
from fewlabel.data.io.geometry import Geometry
from fewlabel.data.io.itk_image import header_if_readable, read_image
from fewlabel.data.io.itk_log import reading
from fewlabel.data.io.nifti_bytes import is_marked
from fewlabel.data.io.shear import needs_resampling, put_back
from fewlabel.data.io.volume_reading import read_geometry

_NIFTI = (".nii.gz", ".nii", ".hdr", ".img", ".img.gz")
#: Fields of a NIfTI header that programs fill with names of people, files and studies.
_FREE_TEXT = ("descrip", "db_name", "aux_file", "intent_name")


def write_mask(path: Path, array: NDArray[Any], reference: Path, keys: Mapping[str, str] | None = None) -> None:
    """Write a mask on the grid of a scan.

    For NIfTI the header of the scan is kept (codes, matrices, pixdim, units); the data type, the intensity scaling and
    window fields change, and the fields and extensions of free text, where names stand, are emptied. Other formats
    take over SimpleITK's geometry. Of a scan with sheared axes, the mask is put back from the grid at right angles.

    Args:
        path: Where to; the suffix chooses the format.
        array: (z, y, x) whole numbers, or (frames, z, y, x) for a 4D NIfTI, on the grid of
            :func:`fewlabel.data.io.volume_reading.read_volume`.
        reference: The scan that was segmented.
        keys: What goes into the header of an NRRD, by keys of its own; such a file has three axes even of a picture.

    Raises:
        DataError: If the shape differs from the scan's.
    """
    cine = array.ndim == 4
    _write(path, array if cine else array[None], reference, single=not cine, keys=keys)


def write_probabilities(path: Path, array: NDArray[np.floating[Any]], reference: Path) -> None:
    """Write class probabilities (classes, z, y, x) as a float32 image with the classes along its fourth axis."""
    _write(path, np.asarray(array, dtype=np.float32), reference, single=False, shares=True)


def write_map(path: Path, array: NDArray[np.floating[Any]], reference: Path) -> None:
    """Write one value per voxel (z, y, x) as a float32 image."""
    _write(path, np.asarray(array, dtype=np.float32)[None], reference, single=True)


def _write(
    path: Path,
    array: NDArray[Any],
    reference: Path,
    *,
    single: bool,
    shares: bool = False,
    keys: Mapping[str, str] | None = None,
) -> None:
    """Write values (volumes, z, y, x) under the header of a scan.

    Args:
        path: Where to.
        array: The values.
        reference: The scan.
        single: Whether they are one volume.
        shares: Whether the values of a voxel sum to 1, the background first.
        keys: As of :func:`write_mask`.
    """
    path, reference = Path(path), Path(reference)
    check_name(path)
    geometry = read_geometry(reference)
    composite = parse_composite(reference)
    if isinstance(composite, Frame):
        # A mask of one frame is a 3D image with all facts of the cine's header.
        reference = composite.file
    if array.shape[1:] != geometry.shape:
        fault = Fault(f"{path} would have shape {array.shape[1:]}, but {reference} has {geometry.shape}")
        raise DataError("A mask cannot be written:", [fault])
    if needs_resampling(geometry):
        array = put_back(array, geometry)
        if shares:
            array[0] += 1 - array.sum(axis=0)
    named = path.name.lower().endswith(_NIFTI[:2])
    with written_beside(path) as partial:
        if named and reference.name.lower().endswith(_NIFTI) and is_marked(reference):
            _write_nifti(partial, array, reference, single=single)
        elif named and geometry.exact:
            _write_sheared_nifti(partial, array, geometry, single=single)
        else:
            _write_other(partial, array, reference, single=single, keys=keys)


def _write_nifti(path: Path, array: NDArray[Any], reference: Path, *, single: bool) -> None:
    import nibabel

    # Loaded without its data: only the header is wanted.
    scan: Any = nibabel.load(reference)
    header = scan.header.copy()
    header.set_data_dtype(array.dtype)
    header["cal_min"] = header["cal_max"] = 0
    header["scl_slope"], header["scl_inter"] = 1, 0
    for name in _FREE_TEXT:
        if name in set(header.keys()):
            header[name] = b""
    if hasattr(header, "extensions"):
        header.extensions.clear()
    voxels = array.transpose(3, 2, 1, 0)
    dimensions = int(scan.header["dim"][0])
    if single:
        voxels = voxels[..., 0]
        if dimensions == 2:
            voxels = voxels[..., 0]
    # An affine of None keeps qform and sform, codes included, as they are in the header.
    kind = nibabel.Nifti2Image if isinstance(scan.header, nibabel.Nifti2Header) else nibabel.Nifti1Image
    nibabel.save(kind(np.ascontiguousarray(voxels), None, header), path)


def _write_sheared_nifti(path: Path, array: NDArray[Any], geometry: Geometry, *, single: bool) -> None:
    """Write the header of a scan in another format anew: ITK would turn its axes to right angles."""
    import nibabel

    affine = np.eye(4)
    affine[:3, :3] = np.asarray(geometry.exact[:9]).reshape(3, 3)
    affine[:3, 3] = geometry.exact[9:]
    # From left and posterior to right and anterior.
    image = nibabel.Nifti1Image(array.transpose(3, 2, 1, 0)[..., 0 if single else slice(None)], None)
    image.header.set_sform(np.diag([-1, -1, 1, 1]) @ affine, code=1)
    image.header.set_zooms((*geometry.spacing[::-1], *(() if single else (1.0,))))
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def _write_other(
    path: Path, array: NDArray[Any], reference: Path, *, single: bool, keys: Mapping[str, str] | None = None
) -> None:
    scan = _grid(reference)
    if scan.GetDimension() == 4:
        scan = scan[..., 0]
    if scan.GetDimension() == 2 and keys:
        scan = sitk.JoinSeries([scan])
    data = array[0] if single else np.moveaxis(array, 0, -1)
    data = data[0] if scan.GetDimension() == 2 else data
    image = sitk.GetImageFromArray(data, isVector=not single)
    image.CopyInformation(scan)
    for key, value in (keys or {}).items():
        image.SetMetaData(key, value)
    with reading(path):
        sitk.WriteImage(image, str(path), useCompression=True)


def _grid(reference: Path) -> Any:
    """An image with the geometry of a scan."""
    if is_file_path(reference):
        header = None if is_picture(reference) else header_if_readable(reference)
        if header is None:
            return read_image(reference)
        # Its grid alone: the voxels of the scan are not read again.
        image = sitk.Image(header.GetSize(), sitk.sitkUInt8)
        image.SetSpacing(header.GetSpacing())
        image.SetOrigin(header.GetOrigin())
        image.SetDirection(header.GetDirection())
        return image
    geometry = read_geometry(reference)
    image = sitk.Image(list(geometry.shape[::-1]), sitk.sitkUInt8)
    steps = np.asarray(geometry.direction).reshape(3, 3) * geometry.spacing[::-1]
    origin: Sequence[float] = geometry.origin
    if geometry.exact:
        # The mask lies on the axes of the scan again, which are not at right angles.
        steps, origin = np.asarray(geometry.exact[:9]).reshape(3, 3), geometry.exact[9:]
    sizes = np.linalg.norm(steps, axis=0)
    image.SetSpacing(sizes.tolist())
    image.SetOrigin(origin)
    image.SetDirection((steps / sizes).ravel().tolist())
    return image
